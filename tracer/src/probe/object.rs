//! The compiled kernel programs, which are part of this binary.

use anyhow::{Context as _, Result, ensure};

/// The ELF object, aligned for the parser. Empty if it was not built.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("PODTRACE_EBPF_OBJECT"));

/// The object.
///
/// # Errors
///
/// If it was not built, or is of another ABI version than this binary.
pub(super) fn object() -> Result<&'static [u8]> {
    ensure!(
        !OBJECT.is_empty(),
        "this podtrace was built without its kernel programs: build it with `cargo xtask build`"
    );
    let version = abi_version(OBJECT)?;
    ensure!(
        version == tracer_common::ABI_VERSION,
        "the kernel programs have ABI version {version}, but this binary needs version {}: \
         build both with `cargo xtask build`",
        tracer_common::ABI_VERSION
    );
    Ok(OBJECT)
}

/// Reads the ABI version from its section of the object.
fn abi_version(object: &[u8]) -> Result<u32> {
    use object::{Object as _, ObjectSection as _};
    let file = object::File::parse(object).context("parsing the kernel programs built into this binary")?;
    let section = file.section_by_name("podtrace_abi").context("the kernel programs have no ABI version")?;
    let data = section.data().context("reading the kernel programs' ABI version")?;
    data.first_chunk()
        .map(|version| u32::from_le_bytes(*version))
        .context("the kernel programs' ABI version is truncated")
}
