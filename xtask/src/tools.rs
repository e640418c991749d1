//! Programs of this machine, with the shared libraries they need, for guests and images that have no distribution.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::run;

/// Where they are taken to.
const DIRECTORY: &str = "/usr/bin";

/// How the library's name begins that iptables looks for its extensions beside, in a folder of this name.
const XTABLES: (&str, &str) = ("libxtables.so", "xtables");

/// How the names of the extensions for IP begin.
const EXTENSIONS: [&str; 3] = ["libxt_", "libipt_", "libip6t_"];

/// A file to be taken along.
pub(crate) struct File {
    /// Where it is there.
    pub(crate) at: PathBuf,
    /// Where it is here.
    pub(crate) from: PathBuf,
}

/// Those of the programs that are here, and their libraries.
pub(crate) fn files(programs: &[&str]) -> Result<Vec<File>> {
    let (mut files, mut libraries) = (Vec::new(), BTreeSet::new());
    for program in programs {
        let Some(from) = run::find_program(program) else { continue };
        libraries.extend(libraries_of(&from));
        files.push(File { at: Path::new(DIRECTORY).join(program), from });
    }
    for extension in extensions(&libraries)? {
        libraries.extend(libraries_of(&extension));
        libraries.insert(extension);
    }
    files.extend(libraries.into_iter().map(|path| File { at: path.clone(), from: path }));
    Ok(files)
}

fn libraries_of(program: &Path) -> Vec<PathBuf> {
    needed(&run::ask(Command::new("ldd").arg(program)).unwrap_or_default())
}

/// What iptables loads by itself, and `ldd` does not tell of.
fn extensions(libraries: &BTreeSet<PathBuf>) -> Result<Vec<PathBuf>> {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Some(library) = libraries.iter().find(|path| name(path).starts_with(XTABLES.0)) else {
        return Ok(Vec::new());
    };
    // The loader's path may go by a link that is not in the guest.
    let library = library.canonicalize().with_context(|| format!("cannot find {}", library.display()))?;
    let directory = library.with_file_name(XTABLES.1);
    let about = || format!("cannot read {}", directory.display());
    let entries = std::fs::read_dir(&directory).with_context(about)?;
    let paths = entries.map(|entry| Ok(entry.with_context(about)?.path())).collect::<Result<Vec<_>>>()?;
    let is_wanted = |path: &PathBuf| EXTENSIONS.iter().any(|start| name(path).starts_with(start));
    Ok(paths.into_iter().filter(is_wanted).collect())
}

/// The files in the output of `ldd`: `NAME => PATH (ADDRESS)`, and the loader as `PATH (ADDRESS)`.
fn needed(ldd: &str) -> Vec<PathBuf> {
    let path = |line: &str| {
        let place = line.rsplit_once("=>").map_or(line, |(_, place)| place);
        let path = place.split_whitespace().next()?;
        path.starts_with('/').then(|| PathBuf::from(path))
    };
    ldd.lines().filter_map(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_ldd() {
        let ldd = "\tlinux-vdso.so.1 (0x00007ff15b64f000)\n\tlibmnl.so.0 => /lib/x86_64-linux-gnu/libmnl.so.0 (0x7f)\n\
                   \tlibgone.so => not found\n\t/lib64/ld-linux-x86-64.so.2 (0x00007ff15b651000)\n";
        let expected =
            ["/lib/x86_64-linux-gnu/libmnl.so.0", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(needed(ldd), expected);
        assert!(needed("\tnot a dynamic executable\n").is_empty());
    }
}
