//! SHA256SUMS: the checksums of what is shipped, as `sha256sum --check` reads them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

/// The file's name.
pub(crate) const NAME: &str = "SHA256SUMS";

/// SHA-256 in hexadecimal.
pub(crate) fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes the checksums of all files in a folder.
pub(crate) fn write(folder: &Path) -> Result<()> {
    let lines: String = of(folder)?.iter().map(|(name, hash)| format!("{hash}  {name}\n")).collect();
    let path = folder.join(NAME);
    fs::write(&path, lines).with_context(|| format!("cannot write {}", path.display()))
}

/// Checksums by name of all files in a folder but this one.
pub(crate) fn of(folder: &Path) -> Result<BTreeMap<String, String>> {
    let about = || format!("cannot read {}", folder.display());
    let mut sums = BTreeMap::new();
    for entry in fs::read_dir(folder).with_context(about)? {
        let path = entry.with_context(about)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_file() && name != NAME {
            let content = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            sums.insert(name, hash(&content));
        }
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_in_order_and_as_sha256sum_writes_them() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("b"), "").unwrap();
        fs::write(folder.path().join("a"), "abc").unwrap();
        write(folder.path()).unwrap();
        // A second time, the list itself is not in it.
        write(folder.path()).unwrap();
        let text = fs::read_to_string(folder.path().join(NAME)).unwrap();
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  a\n\
                        e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  b\n";
        assert_eq!(text, expected);
    }
}
