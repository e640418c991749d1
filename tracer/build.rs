//! Finds the compiled eBPF programs for the binary, which embeds them.
//!
//! `cargo xtask build` puts them at `target/bpf/podtrace-ebpf.o`; `PODTRACE_EBPF_OBJECT` names another file.
//! Without them the binary embeds an empty file, so that a plain `cargo build` or `cargo test` needs no
//! toolchain for BPF.
//!
//! The object itself is not watched from here: the compiler notes that the binary includes it. Watched here, a new
//! object would have the library compiled anew too.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

const OBJECT: &str = "PODTRACE_EBPF_OBJECT";

/// A file beside the object, missing if somebody has removed both.
const MARK: &str = "watched-by-podtrace";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed={OBJECT}");
    let object = match env::var_os(OBJECT).filter(|path| !path.is_empty()) {
        Some(path) => {
            let path = PathBuf::from(path);
            fs::canonicalize(&path).map_err(|error| {
                format!("{OBJECT} names {}, which cannot be read: {error}", path.display())
            })?
        }
        None => usual_place()?,
    };
    println!("cargo:rustc-env={OBJECT}={}", object.display());
    Ok(())
}

/// The object where `cargo xtask build` puts it, or an empty file.
fn usual_place() -> Result<PathBuf, Box<dyn Error>> {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("cargo sets CARGO_MANIFEST_DIR")?);
    let object =
        manifest.parent().ok_or("the package stands in the workspace")?.join("target/bpf/podtrace-ebpf.o");
    // Cargo takes a watched file that does not exist for one that has changed, and would run this each time. Where the
    // place is read-only, nothing will appear there either.
    let mark = object.with_file_name(MARK);
    if create_empty(&mark).is_ok() {
        println!("cargo:rerun-if-changed={}", mark.display());
    }
    if object.is_file() || create_empty(&object).is_ok() {
        return Ok(object);
    }
    let empty = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?).join("no-kernel-programs");
    create_empty(&empty)?;
    Ok(empty)
}

fn create_empty(path: &Path) -> std::io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    // Dated long ago, for cargo takes a watched file that is younger than this script's start for changed.
    fs::File::create(path)?.set_modified(SystemTime::UNIX_EPOCH)
}
