//! Keeps the tables in the documentation.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::workspace;

/// The tables are between these lines.
const BEGIN: &str = "<!-- tables: cargo xtask vm --docs -->\n";
const END: &str = "<!-- end of tables -->\n";

/// Where they are kept.
pub(super) fn path() -> PathBuf {
    workspace::root().join("docs/kernels.md")
}

/// Puts these tables in the place of those that are there.
pub(super) fn write(tables: &str) -> Result<()> {
    let path = path();
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = replaced(&text, tables)
        .with_context(|| format!("{} lacks the lines between which tables go", path.display()))?;
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn replaced(text: &str, tables: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{tables}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_tables_are_replaced() {
        let text = format!("before\n{BEGIN}old\n{END}after\n");
        assert_eq!(replaced(&text, "new\n").unwrap(), format!("before\n{BEGIN}\nnew\n\n{END}after\n"));
        assert_eq!(replaced("nothing", "new"), None);
        let kept = fs::read_to_string(path()).unwrap();
        assert!(replaced(&kept, "").is_some(), "docs/kernels.md has a place for the tables");
    }
}
