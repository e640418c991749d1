//! Which paths of this machine compilers replace in what they make: so that a program says nothing of where it was made,
//! and comes out the same everywhere.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::workspace;

/// Flags for rustc, also for one whose library is compiled from the sources in `sysroot`.
pub(crate) fn flags(sysroot: Option<&Path>) -> Vec<String> {
    // The last that fits counts, so what may be inside something else comes after it.
    let mut replaced = vec![(workspace::root(), "/podtrace")];
    replaced.extend(registries().into_iter().map(|registry| (registry, "/cargo")));
    replaced.extend(sysroot.map(|sysroot| (sysroot.join("lib/rustlib/src/rust"), "/rust")));
    let flag = |(from, to): (PathBuf, &str)| format!("--remap-path-prefix={}={to}", from.display());
    replaced.into_iter().map(flag).collect()
}

/// Where cargo unpacks crates: a folder for each registry, named after where that is reached.
fn registries() -> Vec<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::home_dir().map(|home| home.join(".cargo")));
    let Some(sources) = home.map(|home| home.join("registry/src")) else { return Vec::new() };
    let mut found: Vec<_> =
        fs::read_dir(sources).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checkout_is_replaced_before_what_may_be_in_it() {
        let flags = flags(Some(Path::new("/s")));
        assert_eq!(flags[0], format!("--remap-path-prefix={}=/podtrace", workspace::root().display()));
        assert_eq!(
            flags.last().map(String::as_str),
            Some("--remap-path-prefix=/s/lib/rustlib/src/rust=/rust")
        );
    }
}
