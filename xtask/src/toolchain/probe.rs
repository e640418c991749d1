//! What the machine has: thin readers around pure parsers.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::choice::{self, Compiler, Install, Linker, Machine};
use crate::{apt, run, workspace};

/// Debian's cargo and rustc by their full names, for rustup's are usually earlier in PATH.
pub(super) const DEBIAN_CARGO: &str = "/usr/bin/cargo";
pub(super) const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// The facts that are quickly had: everything but apt's packages.
pub(super) fn installed() -> Machine {
    let sysroot = nightly_sysroot();
    let rust_src =
        sysroot.as_ref().is_some_and(|root| root.join("lib/rustlib/src/rust/library/Cargo.lock").is_file());
    Machine {
        rustup: run::find_program("rustup").is_some(),
        nightly: sysroot.and_then(|root| compiler(&root.join("bin/rustc"))),
        rust_src,
        debian: debian(),
        linkers: linkers(),
        packages: BTreeSet::new(),
        refused: BTreeSet::new(),
    }
}

/// The packages that apt can provide, of those that matter here.
pub(super) fn packages() -> BTreeSet<String> {
    let names = choice::packages_of_interest();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let found = apt::available(&names);
    // zlib1g-dev may be installed and known for that alone.
    if found.iter().any(|name| name.starts_with("llvm-")) {
        return found;
    }
    match apt::update("no package list here knows LLVM") {
        Ok(()) => apt::available(&names),
        Err(error) => {
            eprintln!("warning: {error:#}");
            found
        }
    }
}

/// Whether the machine now has what was installed.
pub(super) fn shows(install: Install) -> bool {
    let machine = installed();
    match install {
        Install::Nightly => machine.nightly.is_some(),
        Install::RustSrc => machine.rust_src,
        Install::DebianCompiler => machine.debian.is_some(),
        Install::BpfLinker { llvm } => machine.linkers.iter().any(|linker| linker.llvm == Some(llvm)),
    }
}

/// Where rustup keeps the nightly toolchain, if it has one.
pub(super) fn nightly_sysroot() -> Option<PathBuf> {
    let mut command = Command::new("rustup");
    // Asking must not make rustup fetch what is not there.
    run::without_outer_cargo(&mut command).env("RUSTUP_AUTO_INSTALL", "0");
    let sysroot = run::ask(command.args(["run", "nightly", "rustc", "--print", "sysroot"]))?;
    Some(PathBuf::from(sysroot.trim()))
}

fn compiler(rustc: &Path) -> Option<Compiler> {
    parse_compiler(&run::ask(run::without_outer_cargo(&mut Command::new(rustc)).arg("-vV"))?)
}

fn debian() -> Option<Compiler> {
    if !Path::new(DEBIAN_CARGO).is_file() {
        return None;
    }
    let mut command = Command::new(DEBIAN_RUSTC);
    let target = super::target();
    let libraries = run::ask(run::without_outer_cargo(&mut command).env("RUSTC_BOOTSTRAP", "1").args([
        "--print",
        "target-libdir",
        "--target",
        target,
    ]))?;
    let has_core = fs::read_dir(libraries.trim()).ok()?.flatten().any(|entry| {
        let name = entry.file_name();
        name.to_string_lossy().starts_with("libcore-")
    });
    if has_core { compiler(Path::new(DEBIAN_RUSTC)) } else { None }
}

fn linkers() -> Vec<Linker> {
    let own = workspace::tools_dir().ok().map(|tools| tools.join("bin/bpf-linker"));
    // What `cargo install` put there counts, also where PATH lacks cargo's directory.
    let cargo_home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
    let cargos = cargo_home.map(|home| home.join("bin/bpf-linker"));
    let mut paths: Vec<PathBuf> = Vec::new();
    for path in [run::find_program("bpf-linker"), cargos, own].into_iter().flatten() {
        if path.is_file() && !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths.into_iter().filter_map(linker).collect()
}

fn linker(path: PathBuf) -> Option<Linker> {
    let version = parse_linker_version(&run::ask(Command::new(&path).arg("--version"))?)?;
    let shared = run::ask(Command::new("ldd").arg(&path)).and_then(|text| parse_shared_llvm(&text));
    let llvm = shared.or_else(|| find_static_llvm(&fs::read(&path).ok()?));
    Some(Linker { path, version, llvm })
}

/// Reads `rustc -vV`.
fn parse_compiler(text: &str) -> Option<Compiler> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let release = field("release: 1.")?;
    let llvm = field("LLVM version: ")?;
    Some(Compiler { minor: leading_number(release)?, llvm: leading_number(llvm)? })
}

/// Reads `bpf-linker --version`.
fn parse_linker_version(text: &str) -> Option<(u32, u32)> {
    let (major, rest) = text.trim().strip_prefix("bpf-linker ")?.split_once('.')?;
    Some((major.parse().ok()?, leading_number(rest)?))
}

/// Finds the LLVM among the shared libraries that `ldd` lists: `libLLVM.so.22.1 => …` or `libLLVM-18.so.1 => …`.
fn parse_shared_llvm(ldd: &str) -> Option<u32> {
    ldd.lines().find_map(|line| {
        let rest = line.trim_start().strip_prefix("libLLVM")?;
        let (name, found) = rest.split_once(" => ")?;
        if found.trim() == "not found" {
            return None;
        }
        leading_number(name.trim_start_matches(|c: char| !c.is_ascii_digit()))
    })
}

/// Finds the name by which a statically linked LLVM signs its bitcode: `LLVM22.1.4`.
fn find_static_llvm(program: &[u8]) -> Option<u32> {
    const SIGNATURE: &[u8] = b"LLVM";
    let mut at = 0;
    while let Some(found) = program.get(at..)?.windows(SIGNATURE.len()).position(|window| window == SIGNATURE)
    {
        at += found + SIGNATURE.len();
        let text: String = program[at..]
            .iter()
            .map(|byte| char::from(*byte))
            .take_while(|c| c.is_ascii_digit() || *c == '.')
            .take(12)
            .collect();
        if text.split('.').count() == 3 && !text.ends_with('.') {
            return leading_number(&text);
        }
    }
    None
}

fn leading_number(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compilers_are_read() {
        let nightly = "rustc 1.97.0-nightly (e50aa6fba 2026-05-19)\nbinary: rustc\nhost: x86_64-unknown-linux-gnu\n\
                       release: 1.97.0-nightly\nLLVM version: 22.1.4\n";
        assert_eq!(parse_compiler(nightly), Some(Compiler { minor: 97, llvm: 22 }));
        assert_eq!(
            parse_compiler("release: 1.96.0\nLLVM version: 22.1\n"),
            Some(Compiler { minor: 96, llvm: 22 })
        );
        assert_eq!(parse_compiler("release: 1.97.0\n"), None);
    }

    #[test]
    fn linkers_are_read() {
        assert_eq!(parse_linker_version("bpf-linker 0.13.0\n"), Some((0, 13)));
        assert_eq!(parse_linker_version("bpf-linker 1.2\n"), Some((1, 2)));
        assert_eq!(parse_linker_version("ld 2.40"), None);
    }

    #[test]
    fn llvm_of_a_linker_is_found() {
        let ldd =
            "\tlinux-vdso.so.1 (0x1)\n\tlibLLVM.so.22.1 => /usr/lib/llvm-22/lib/libLLVM.so.22.1 (0x2)\n";
        assert_eq!(parse_shared_llvm(ldd), Some(22));
        assert_eq!(parse_shared_llvm("\tlibLLVM-18.so.1 => /usr/lib/libLLVM-18.so.1 (0x2)\n"), Some(18));
        assert_eq!(parse_shared_llvm("\tlibLLVM.so.22.1 => not found\n"), None);
        assert_eq!(parse_shared_llvm("\tstatically linked\n"), None);

        assert_eq!(find_static_llvm(b"\0LLVM0700\0LLVM22.1.4-rust-1.97.0\0"), Some(22));
        assert_eq!(find_static_llvm(b"LLVM ERROR: LLVM0700H LLVM22. LLVM"), None);
        assert_eq!(find_static_llvm(b""), None);
    }
}
