//! What a trace's nodes said about their hooks, from a recording of it.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use podtrace_protocol::frame::FromAgent;
use podtrace_report::recording::Files;
use serde::Deserialize;
use serde_json::Value;

use crate::expect;

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

/// How many instructions the kernel's verifier may go through for the programs of these hooks.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Budget {
    /// Names of hooks, `*` for anything.
    points: Vec<String>,
    instructions: u64,
}

/// Checks what the verifier went through against `instructions.yaml`.
///
/// # Errors
///
/// If a hook took more, or has no budget.
pub fn within_budget(hooks: &[Value]) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.yaml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let budgets: Vec<Budget> =
        serde_saphyr::from_str(&text).with_context(|| format!("reading {}", path.display()))?;
    let over: Vec<String> = hooks.iter().filter_map(|hook| over(hook, &budgets)).collect();
    ensure!(over.is_empty(), "{}", over.join("\n"));
    Ok(())
}

/// What is wrong with a hook's number of instructions; kernels before 5.16 tell none.
fn over(hook: &Value, budgets: &[Budget]) -> Option<String> {
    let instructions = hook["instructions"].as_u64()?;
    let point = hook["point"].as_str().unwrap_or_default();
    let fits = |budget: &&Budget| budget.points.iter().any(|pattern| expect::fits(pattern, point));
    match budgets.iter().find(fits) {
        None => {
            Some(format!("{point} has no budget in instructions.yaml; it took {instructions} instructions"))
        }
        Some(budget) if instructions > budget.instructions => {
            Some(format!("{point} took {instructions} instructions of at most {}", budget.instructions))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_hook_over_its_budget_or_without_one_is_reported() {
        let budgets = [Budget { points: vec!["tc:*".to_owned()], instructions: 100 }];
        let over_budget = |hook: &Value| over(hook, &budgets).unwrap_or_default();
        assert_eq!(over_budget(&json!({"point": "tc:ingress", "instructions": 100})), "");
        assert_eq!(over_budget(&json!({"point": "tc:ingress", "instructions": null})), "");
        assert!(over_budget(&json!({"point": "tc:ingress", "instructions": 101})).contains("at most 100"));
        assert!(over_budget(&json!({"point": "kprobe:x", "instructions": 1})).contains("no budget"));
    }
}
