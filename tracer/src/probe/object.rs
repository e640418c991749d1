//! The kernel programs as they were built into this binary.

use anyhow::{Context as _, Result, ensure};

/// The object, aligned as the ELF parser wants it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("PODTRACE_EBPF_OBJECT"));

/// The object, if there is one and it speaks this binary's ABI.
pub(super) fn object() -> Result<&'static [u8]> {
    ensure!(
        !OBJECT.is_empty(),
        "this podtrace was built without its kernel programs; build it with `cargo xtask build`"
    );
    let version = abi_version(OBJECT)?;
    ensure!(
        version == tracer_common::ABI_VERSION,
        "the kernel programs speak version {version} of the ABI, this binary version {}; \
         build both with `cargo xtask build`",
        tracer_common::ABI_VERSION
    );
    Ok(OBJECT)
}

/// Reads the version that the object carries in a section of its own.
fn abi_version(object: &[u8]) -> Result<u32> {
    use object::{Object as _, ObjectSection as _};
    let file = object::File::parse(object).context("reading the kernel programs built into this binary")?;
    let section = file.section_by_name("podtrace_abi").context("the kernel programs carry no ABI version")?;
    let data = section.data().context("reading the kernel programs' ABI version")?;
    data.first_chunk().map(|version| u32::from_le_bytes(*version)).context("the ABI version is cut off")
}
