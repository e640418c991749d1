//! The compiled eBPF programs, which are part of this binary.
//!
//! The binary embeds them and hands them to the library when it starts. So only the binary is built again when the kernel
//! programs have changed, and the library can be compiled before they are.

use std::sync::OnceLock;

use anyhow::{Context as _, Result, ensure};

/// The ELF object. Empty if it was not built.
static OBJECT: OnceLock<&[u8]> = OnceLock::new();

/// Takes the ELF object that the binary embeds: aligned to 8 bytes for the parser, or empty. Only the first call counts.
pub fn embedded(object: &'static [u8]) {
    OBJECT.get_or_init(|| object);
}

/// The object.
///
/// # Errors
///
/// If it was not built, or is of another ABI version than this binary.
pub(super) fn object() -> Result<&'static [u8]> {
    let object = OBJECT.get().copied().unwrap_or_default();
    ensure!(
        !object.is_empty(),
        "this podtrace was built without its eBPF programs: build it with `cargo xtask build`"
    );
    let version = abi_version(object)?;
    ensure!(
        version == tracer_common::ABI_VERSION,
        "the eBPF programs have ABI version {version}, but this binary needs version {}: \
         build both with `cargo xtask build`",
        tracer_common::ABI_VERSION
    );
    Ok(object)
}

/// Reads the ABI version from its section of the object.
fn abi_version(object: &[u8]) -> Result<u32> {
    use object::{Object as _, ObjectSection as _};
    let file = object::File::parse(object).context("parsing the eBPF programs built into this binary")?;
    let section = file.section_by_name("podtrace_abi").context("the eBPF programs have no ABI version")?;
    let data = section.data().context("reading the eBPF programs' ABI version")?;
    data.first_chunk()
        .map(|version| u32::from_le_bytes(*version))
        .context("the eBPF programs' ABI version is truncated")
}
