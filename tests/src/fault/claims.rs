//! Claims that podtrace makes in some states and that are false in others: `faults/claims.yaml`.

use anyhow::{Context as _, Result};
use regex::Regex;
use serde::Deserialize;

/// A sentence that is true in few states.
#[derive(Clone, Debug)]
pub struct Claim {
    /// What faults call it.
    pub name: String,
    /// What it looks like.
    pub pattern: Regex,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    pattern: String,
}

/// All claims.
///
/// # Errors
///
/// If they cannot be read.
pub fn all() -> Result<Vec<Claim>> {
    let path = super::data::directory().join("claims.yaml");
    let about = || format!("reading {}", path.display());
    let text = std::fs::read_to_string(&path).with_context(about)?;
    let written: Vec<Written> = serde_saphyr::from_str(&text).with_context(about)?;
    written
        .into_iter()
        .map(|Written { name, pattern }| Ok(Claim { pattern: super::judge::pattern(&pattern)?, name }))
        .collect::<Result<_>>()
        .with_context(about)
}
