//! Compares the bill of materials with what cargo-auditable noted in the binary: the one is read from cargo's tree, the other
//! was written while linking.

use std::collections::BTreeSet;
use std::io::Read as _;

use anyhow::{Context as _, Result, ensure};
use flate2::read::ZlibDecoder;
use object::{Object as _, ObjectSection as _};
use serde_json::Value;

use super::crates::Id;

/// The section that cargo-auditable writes.
const SECTION: &str = ".dep-v0";

/// Fails if one of these crates, by name and version, is not in the binary's own list. That one may have more: it counts
/// macros and features that are off.
pub(crate) fn compare(binary: &[u8], linked: &BTreeSet<Id>) -> Result<()> {
    let noted = noted(binary)?;
    let missing: Vec<_> = linked.difference(&noted).collect();
    ensure!(
        missing.is_empty(),
        "the bill of materials has crates that the binary does not name: {missing:?}"
    );
    Ok(())
}

/// Names and versions in the binary's list.
fn noted(binary: &[u8]) -> Result<BTreeSet<Id>> {
    let file = object::File::parse(binary).context("the binary is no ELF file")?;
    let section = file.section_by_name(SECTION);
    let section = section.with_context(|| format!("the binary has no list of its crates ({SECTION})"))?;
    let mut text = Vec::new();
    ZlibDecoder::new(section.data()?).read_to_end(&mut text).context("the binary's list is damaged")?;
    let list: Value = serde_json::from_slice(&text).context("the binary's list is no JSON")?;
    let packages = list["packages"].as_array().context("the binary's list has no packages")?;
    let id = |package: &Value| {
        Some((package["name"].as_str()?.to_owned(), package["version"].as_str()?.to_owned()))
    };
    Ok(packages.iter().filter_map(id).collect())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::ZlibEncoder};
    use object::write::Object;
    use object::{Architecture, BinaryFormat, Endianness, SectionKind};

    use super::*;

    fn binary(list: &str) -> Vec<u8> {
        let mut packed = ZlibEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(list.as_bytes()).unwrap();
        let mut object = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
        let section = object.add_section(Vec::new(), SECTION.as_bytes().to_vec(), SectionKind::ReadOnlyData);
        object.set_section_data(section, packed.finish().unwrap(), 1);
        object.write().unwrap()
    }

    fn linked(names: &[&str]) -> BTreeSet<Id> {
        names.iter().map(|name| ((*name).to_owned(), "1.0.0".to_owned())).collect()
    }

    #[test]
    fn a_crate_that_the_binary_does_not_name_is_missed() {
        let binary =
            binary(r#"{"packages":[{"name":"a","version":"1.0.0"},{"name":"macro","version":"1.0.0"}]}"#);
        compare(&binary, &linked(&["a"])).unwrap();
        let error = compare(&binary, &linked(&["a", "b"])).unwrap_err().to_string();
        assert!(error.contains("\"b\"") && !error.contains("\"a\""), "{error}");
        assert!(compare(b"no program", &linked(&[])).is_err());
    }
}
