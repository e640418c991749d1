//! Checks every line of `-o json` against the schema in the repository.

use std::sync::LazyLock;

use anyhow::{Context as _, Result, bail};
use jsonschema::Validator;
use serde_json::Value;

const SCHEMA: &str = include_str!("../../schema/podtrace.schema.json");

static VALIDATOR: LazyLock<Result<Validator, String>> = LazyLock::new(|| {
    let schema: Value = serde_json::from_str(SCHEMA).map_err(|error| error.to_string())?;
    jsonschema::validator_for(&schema).map_err(|error| error.to_string())
});

/// Parses a line and validates it against the schema.
///
/// # Errors
///
/// If it is not JSON or does not match.
pub fn parse(line: &str) -> Result<Value> {
    let value: Value = serde_json::from_str(line).with_context(|| format!("no JSON: {line}"))?;
    let validator = VALIDATOR.as_ref().map_err(|error| anyhow::anyhow!("the schema: {error}"))?;
    let errors: Vec<_> = validator
        .iter_errors(&value)
        .map(|error| format!("{} at {}", error, error.instance_path()))
        .collect();
    if !errors.is_empty() {
        bail!("not as the schema says: {}\n{line}", errors.join("; "));
    }
    Ok(value)
}
