//! The licences of all crates in a binary, as one text: each crate with its licence, then each text once, with the crates
//! that carry it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::crates::Linked;

/// How the names of files begin that hold licences or must go along with them.
const NAMES: [&str; 5] = ["license", "licence", "copying", "notice", "unlicense"];

/// The C library's.
const MUSL: &str = include_str!("musl.txt");

/// The text.
pub(crate) fn third_party(linked: &[Linked]) -> Result<String> {
    let mut text = format!(
        "podtrace is licensed under MIT OR Apache-2.0: LICENSE-MIT, LICENSE-APACHE. The eBPF programs in it are licensed under MIT OR\n\
         GPL-2.0-only. Its binary also contains the following {} crates, Rust's standard library (MIT OR Apache-2.0) and musl.\n\n",
        linked.iter().filter(|this| this.checksum.is_some()).count()
    );
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for Linked { name, version, licence, folder, .. } in linked.iter().filter(|this| this.checksum.is_some())
    {
        let found = files(folder)?;
        let note = if found.is_empty() { "  (its package has no licence text)" } else { "" };
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{name} {version}: {licence}{note}");
        for licence in found {
            texts.entry(licence).or_default().push(format!("{name} {version}"));
        }
    }
    texts.entry(MUSL.trim_end().to_owned()).or_default().push("musl".to_owned());
    for (licence, names) in texts {
        let _ = write!(text, "\n{}\n{}\n\n{licence}\n", "=".repeat(80), names.join(", "));
    }
    Ok(text)
}

/// The licences beside a crate's manifest, in order of their files' names.
fn files(folder: &Path) -> Result<Vec<String>> {
    let about = || format!("cannot read {}", folder.display());
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).with_context(about)? {
        let path = entry.with_context(about)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let is_named = NAMES.iter().any(|start| name.starts_with(start)) && !name.ends_with(".rs");
        if path.is_file() && is_named {
            let content = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let content = String::from_utf8_lossy(&content).replace('\r', "");
            found.insert(name, content.trim_end().to_owned());
        }
    }
    Ok(found.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_come_once() {
        let directory = tempfile::tempdir().unwrap();
        let linked = ["a", "b", "bare"].map(|name| {
            let folder = directory.path().join(name);
            fs::create_dir(&folder).unwrap();
            if name != "bare" {
                fs::write(folder.join("LICENSE-MIT"), "Permission\r\n").unwrap();
                fs::write(folder.join("license.rs"), "x").unwrap();
            }
            Linked {
                name: name.to_owned(),
                version: "1.0.0".to_owned(),
                licence: "MIT".to_owned(),
                repository: None,
                folder,
                checksum: Some("1f".to_owned()),
            }
        });
        let text = third_party(&linked).unwrap();
        assert!(text.contains("following 3 crates"), "{text}");
        assert!(text.contains("\na 1.0.0, b 1.0.0\n\nPermission\n"), "{text}");
        assert!(text.contains("bare 1.0.0: MIT  (its package has no licence text)"), "{text}");
        assert!(text.contains("Rich Felker"), "{text}");
    }
}
