//! What a trace's nodes said about their hooks, from a recording of it.

use std::path::Path;

use anyhow::{Context as _, Result};
use podtrace::agent::frame::FromAgent;
use podtrace::recording::Files;
use serde_json::Value;

/// How a line begins that tells of one hook; an object as JSON follows.
pub const LINE: &str = "@hook ";

/// The state of every hook of every node, each an object: what the agent tells, and its `node`. Not as a struct, so
/// that whatever agents come to tell is there.
///
/// # Errors
///
/// If the recording cannot be read.
pub fn of_recording(path: &Path) -> Result<Vec<Value>> {
    let mut reader = Files(vec![path.to_owned()]).open()?;
    let nodes = reader.header().context.nodes.clone();
    let mut hooks = Vec::new();
    let about = || format!("reading the recording {}", path.display());
    while let Some((number, frame)) = reader.next_frame() {
        let Some(FromAgent::Attached(attached)) = frame else { continue };
        for hook in &attached.hooks {
            let mut hook = serde_json::to_value(hook).with_context(about)?;
            hook["node"] = nodes.get(number).map_or("?", String::as_str).into();
            hooks.push(hook);
        }
    }
    Ok(hooks)
}
