//! Compiles the eBPF programs into one object, and checks them with clippy.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use object::build::elf::{Builder, SectionData};
use object::elf;

use crate::architecture::Architecture;
use crate::toolchain::{self, Toolchain};
use crate::{remap, run, workspace};

/// A profile of cargo's for them.
const PROFILE: &str = "ebpf";

/// Compiles the eBPF programs for this machine; the object's file is touched only if its content changes, since the
/// release binary embeds it and would be built anew.
pub(crate) fn build(toolchain: &Toolchain) -> Result<PathBuf> {
    compile(toolchain, env::consts::ARCH, workspace::ebpf_object())
}

/// The same for another machine, whose registers hold the arguments of the kernel's functions.
pub(crate) fn build_for(toolchain: &Toolchain, architecture: Architecture) -> Result<PathBuf> {
    let name = format!("podtrace-ebpf.{}.o", architecture.name());
    compile(toolchain, architecture.name(), workspace::bpf_target_dir().join(name))
}

fn compile(toolchain: &Toolchain, architecture: &str, object: PathBuf) -> Result<PathBuf> {
    let what = format!("compiling the eBPF programs for {architecture} ({})", toolchain.describe());
    run::step(&what, &mut cargo(toolchain, "build", architecture)?)?;
    let built = target_dir(architecture).join(toolchain::target()).join(PROFILE).join("podtrace-ebpf");
    let content =
        fs::read(&built).with_context(|| format!("cannot read what cargo built: {}", built.display()))?;
    let content = without_dwarf(&content)
        .with_context(|| format!("cannot strip what cargo built: {}", built.display()))?;
    if fs::read(&object).ok().as_ref() != Some(&content) {
        fs::write(&object, content).with_context(|| format!("cannot write {}", object.display()))?;
    }
    Ok(object)
}

/// The object with BTF but without DWARF, which nothing reads once BTF has been made of it: it is three quarters of
/// what bpf-linker writes. Relocations of BTF go too, since loaders read BTF as it stands.
fn without_dwarf(content: &[u8]) -> Result<Vec<u8>> {
    const UNREAD: [&str; 3] = [".debug_", ".rel.debug_", ".rel.BTF"];
    let mut builder = Builder::read(content)?;
    for section in &mut builder.sections {
        section.delete = UNREAD.iter().any(|name| section.name.starts_with(name.as_bytes()));
    }
    // What referred to them: their symbols, and relocations that name those.
    builder.delete_orphans();
    // bpf-linker names sections and symbols in one table, for which the builder has no word.
    if !builder.sections.iter().any(|section| matches!(section.data, SectionData::SectionString)) {
        let names = builder.sections.add();
        names.name = ".shstrtab".into();
        names.sh_type = elf::SHT_STRTAB;
        names.data = SectionData::SectionString;
    }
    let mut stripped = Vec::new();
    builder.write(&mut stripped)?;
    Ok(stripped)
}

/// Checks the eBPF programs with clippy.
pub(crate) fn clippy(toolchain: &Toolchain) -> Result<()> {
    let what = format!("clippy for the eBPF programs ({})", toolchain.describe());
    run::step(&what, cargo(toolchain, "clippy", env::consts::ARCH)?.args(["--", "-D", "warnings"]))
}

/// Where cargo compiles them. Another machine's apart: cargo tells its artefacts from ours by no name, and would compile all
/// anew each time.
fn target_dir(architecture: &str) -> PathBuf {
    let ours = workspace::bpf_target_dir();
    if architecture == env::consts::ARCH { ours } else { ours.join(architecture) }
}

fn cargo(toolchain: &Toolchain, subcommand: &str, architecture: &str) -> Result<Command> {
    let mut command = toolchain.cargo(subcommand)?;
    // The BTF of programs and maps is made of debug information.
    let flags = ["-Clinker=bpf-linker", "-Cdebuginfo=2", "-Clink-arg=--btf"].map(str::to_owned);
    let mut flags = flags.to_vec();
    flags.push(format!("--cfg=bpf_target_arch=\"{architecture}\""));
    // The object names the sources' lines, for the verifier's messages.
    flags.extend(remap::flags(toolchain.sysroot().as_deref()));
    command
        .current_dir(workspace::root())
        .args(["--package", "tracer-ebpf", "--bin", "podtrace-ebpf", "--profile", PROFILE])
        .args(["--target", toolchain::target(), "--target-dir"])
        .arg(target_dir(architecture))
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    Ok(command)
}

#[cfg(test)]
mod tests {
    use object::read::elf::ElfFile64;
    use object::{Endianness, Object as _, ObjectSection as _, ObjectSymbol as _};

    use super::*;

    #[test]
    fn an_object_keeps_its_programs_and_btf_without_dwarf() {
        let mut builder = Builder::new(Endianness::Little, true);
        builder.header.e_type = elf::ET_REL;
        builder.header.e_machine = elf::EM_BPF;
        for (name, content) in [("classifier", "program"), (".BTF", "types"), (".debug_info", "dwarf")] {
            let section = builder.sections.add();
            section.name = name.into();
            section.sh_type = elf::SHT_PROGBITS;
            section.data = SectionData::Data(content.as_bytes().into());
            let section = section.id();
            let symbol = builder.symbols.add();
            symbol.name = format!("in {name}").into_bytes().into();
            symbol.section = Some(section);
        }
        for (name, data) in [
            (".symtab", SectionData::Symbol),
            (".strtab", SectionData::String),
            (".shstrtab", SectionData::SectionString),
        ] {
            let section = builder.sections.add();
            section.name = name.into();
            section.sh_type = if name == ".symtab" { elf::SHT_SYMTAB } else { elf::SHT_STRTAB };
            section.data = data;
        }
        let mut whole = Vec::new();
        builder.write(&mut whole).unwrap();

        let stripped = without_dwarf(&whole).unwrap();
        let read = ElfFile64::<Endianness>::parse(&*stripped).unwrap();
        let content = |name| read.section_by_name(name).map(|section| section.data().unwrap());
        assert_eq!(content("classifier"), Some(b"program".as_slice()));
        assert_eq!(content(".BTF"), Some(b"types".as_slice()));
        assert_eq!(content(".debug_info"), None);
        let symbols: Vec<_> = read.symbols().map(|symbol| symbol.name().unwrap()).collect();
        assert_eq!(symbols, ["in classifier", "in .BTF"]);
    }
}
