//! Where things are: the checkout, its target directory, podtrace's cache.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// The checkout's top directory.
pub(crate) fn root() -> PathBuf {
    // What cargo says at run time holds even when the checkout has moved since xtask was compiled.
    let manifest = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest.parent().map_or_else(|| manifest.clone(), Path::to_path_buf)
}

/// Where cargo puts what it builds for this machine.
pub(crate) fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// Where the eBPF programs are compiled: apart from the host's target directory, whose artefacts would
/// otherwise be invalidated by the other compiler. Always in the checkout, for `tracer/build.rs` looks there.
pub(crate) fn bpf_target_dir() -> PathBuf {
    root().join("target/bpf")
}

/// The eBPF programs, where `tracer/build.rs` looks for them.
pub(crate) fn ebpf_object() -> PathBuf {
    bpf_target_dir().join("podtrace-ebpf.o")
}

/// podtrace's cache: `$XDG_CACHE_HOME/podtrace`, else `~/.cache/podtrace`.
pub(crate) fn cache_dir() -> Result<PathBuf> {
    cache_dir_from(env::var_os("XDG_CACHE_HOME").map(PathBuf::from), env::home_dir())
}

/// Tools that xtask installed for itself (`bin/` in here).
pub(crate) fn tools_dir() -> Result<PathBuf> {
    Ok(cache_dir()?.join("tools"))
}

/// The XDG specification has a relative `XDG_CACHE_HOME` ignored.
fn cache_dir_from(xdg: Option<PathBuf>, home: Option<PathBuf>) -> Result<PathBuf> {
    xdg.filter(|path| path.is_absolute())
        .or_else(|| home.filter(|path| path.is_absolute()).map(|home| home.join(".cache")))
        .map(|base| base.join("podtrace"))
        .context("neither XDG_CACHE_HOME nor HOME says where caches belong: set one of them")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_follows_the_xdg_specification() {
        let home = || Some(PathBuf::from("/home/u"));
        let cases = [
            (Some("/x"), home(), Some("/x/podtrace")),
            (Some("relative"), home(), Some("/home/u/.cache/podtrace")),
            (Some(""), home(), Some("/home/u/.cache/podtrace")),
            (None, home(), Some("/home/u/.cache/podtrace")),
            (None, Some(PathBuf::new()), None),
            (None, None, None),
        ];
        for (xdg, home, expected) in cases {
            let found = cache_dir_from(xdg.map(PathBuf::from), home).ok();
            assert_eq!(found, expected.map(PathBuf::from), "XDG_CACHE_HOME {xdg:?}");
        }
    }
}
