//! Tells the library where the compiled kernel programs are, for it to embed them.
//!
//! `cargo xtask build` puts them at `target/bpf/podtrace-ebpf.o`; `PODTRACE_EBPF_OBJECT` names another file.
//! Without them the library embeds an empty file, so that a plain `cargo build` or `cargo test` needs no
//! toolchain for BPF.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

const OBJECT: &str = "PODTRACE_EBPF_OBJECT";

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
    println!("cargo:rerun-if-changed={}", object.display());
    println!("cargo:rustc-env={OBJECT}={}", object.display());
    Ok(())
}

/// The object where `cargo xtask build` puts it, or an empty file.
fn usual_place() -> Result<PathBuf, Box<dyn Error>> {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("cargo sets CARGO_MANIFEST_DIR")?);
    let object =
        manifest.parent().ok_or("the package stands in the workspace")?.join("target/bpf/podtrace-ebpf.o");
    if object.is_file() {
        return Ok(object);
    }
    // The empty file stands where the object will be: cargo takes a watched file that does not exist for one that
    // has changed, and would compile the library anew each time. Where that place is read-only, nothing will
    // appear there either.
    if create_empty(&object).is_ok() {
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
