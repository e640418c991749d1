//! Which files programs need: themselves, the links that lead to them, the loader, the libraries that each names, and the
//! extensions that iptables loads by itself. Read from the files, so that it works for any processor.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use object::Endianness;
use object::elf::{DT_NEEDED, FileHeader64};
use object::read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _};

use super::Entry;
use super::packages::Package;

/// Where programs are looked for.
const PROGRAMS: [&str; 2] = ["usr/sbin", "usr/bin"];

/// The library whose users load extensions, and what their names begin with: matches and targets of IPv4 and IPv6.
const XTABLES: &str = "libxtables.so";
const EXTENSIONS: [&str; 3] = ["libxt_", "libipt_", "libip6t_"];

/// The files that the programs need, below `root`, links included.
pub(super) fn of(root: &Path, programs: &[&str]) -> Result<BTreeSet<PathBuf>> {
    let libraries = Libraries::below(root)?;
    let (mut needed, mut open) = (BTreeSet::new(), Vec::new());
    for program in programs {
        let places = PROGRAMS.map(|place| Path::new(place).join(program));
        let found = places.into_iter().find(|place| root.join(place).symlink_metadata().is_ok());
        open.push(found.with_context(|| format!("Debian's packages have no {program}"))?);
    }
    while let Some(path) = open.pop() {
        if !needed.insert(path.clone()) {
            continue;
        }
        if let Some(to) = link(root, &path)? {
            open.push(to);
            continue;
        }
        let about = || format!("cannot read {}", root.join(&path).display());
        let content = fs::read(root.join(&path)).with_context(about)?;
        let wants = Wants::read(&content).with_context(about)?;
        for name in wants.libraries {
            open.push(libraries.find(&name).with_context(|| format!("{} needs {name}", path.display()))?);
            if name.starts_with(XTABLES) {
                open.extend(libraries.extensions.iter().cloned());
            }
        }
        if let Some(loader) = wants.loader {
            open.push(resolved(root, Path::new(loader.trim_start_matches('/')))?);
        }
    }
    Ok(needed)
}

/// Puts the needed files of one package into an image, with its copyright and what dpkg would know of it, by which scanners
/// see it. Returns whether it has any.
pub(super) fn take(
    root: &Path,
    package: &Package,
    needed: &BTreeSet<PathBuf>,
    entries: &mut BTreeMap<String, Entry>,
) -> Result<bool> {
    // Packages may name files by the old places.
    let mut files = BTreeSet::new();
    for file in &package.files {
        files.insert(unmerged(file));
    }
    let made = alternatives(package);
    let wanted: Vec<_> = needed.iter().filter(|path| files.contains(*path) || made.contains(*path)).collect();
    if wanted.is_empty() {
        return Ok(false);
    }
    for path in wanted {
        let entry = match link(root, path)? {
            Some(_) => {
                let to = fs::read_link(root.join(path))
                    .with_context(|| format!("cannot read {}", path.display()))?;
                Entry::Link(to.to_str().context("a link that is no text")?.to_owned())
            }
            None => file(&root.join(path))?,
        };
        entries.insert(path.to_str().context("a path that is no text")?.to_owned(), entry);
    }
    let copyright = format!("usr/share/doc/{}/copyright", package.name);
    // Some packages link it to that of another of the same sources.
    if let Ok(text) = fs::read(root.join(&copyright)) {
        entries.insert(copyright, Entry::File(text, 0o644));
    }
    let status = format!("var/lib/dpkg/status.d/{}", package.name);
    entries.insert(status, Entry::File(package.control.clone().into_bytes(), 0o644));
    Ok(true)
}

/// Links that belong to no package's files, but to what its scripts do.
fn alternatives(package: &Package) -> BTreeSet<PathBuf> {
    let names: &[&str] =
        if package.name == "iptables" { &["usr/sbin/iptables-save", "usr/sbin/ip6tables-save"] } else { &[] };
    names.iter().map(PathBuf::from).collect()
}

/// The path after `/usr` was merged.
fn unmerged(path: &Path) -> PathBuf {
    let is_old = super::MERGED.iter().any(|(link, _)| path.starts_with(link));
    if is_old { Path::new("usr").join(path) } else { path.to_owned() }
}

fn file(path: &Path) -> Result<Entry> {
    let about = || format!("cannot read {}", path.display());
    let mode = fs::metadata(path).with_context(about)?.permissions().mode();
    let mode = if mode & 0o111 == 0 { 0o644 } else { 0o755 };
    Ok(Entry::File(fs::read(path).with_context(about)?, mode))
}

/// Where a link leads, below `root`; nothing if the path is no link.
fn link(root: &Path, path: &Path) -> Result<Option<PathBuf>> {
    let about = || format!("cannot read {}", root.join(path).display());
    if !root.join(path).symlink_metadata().with_context(about)?.is_symlink() {
        return Ok(None);
    }
    let to = fs::read_link(root.join(path)).with_context(about)?;
    Ok(Some(resolved(root, &joined(path, &to)?)?))
}

/// The path that `to` means in the folder of `path`.
fn joined(path: &Path, to: &Path) -> Result<PathBuf> {
    let mut joined = if to.is_absolute() { PathBuf::new() } else { path.parent().unwrap_or(path).to_owned() };
    for component in to.components() {
        match component {
            Component::Normal(name) => joined.push(name),
            Component::ParentDir => ensure!(joined.pop(), "{} leads out of the root", path.display()),
            Component::RootDir | Component::CurDir => {}
            Component::Prefix(_) => bail!("{} is no path of Linux", to.display()),
        }
    }
    Ok(joined)
}

/// The path with its folder's links followed, so that each file has one name.
fn resolved(root: &Path, path: &Path) -> Result<PathBuf> {
    let path = unmerged(path);
    ensure!(
        root.join(&path).symlink_metadata().is_ok(),
        "{} is missing in Debian's packages",
        path.display()
    );
    Ok(path)
}

/// The libraries of a root, by name.
struct Libraries {
    by_name: BTreeMap<String, PathBuf>,
    extensions: Vec<PathBuf>,
}

impl Libraries {
    /// Looks into `usr/lib` and its folders for processors, which the loader searches by default.
    fn below(root: &Path) -> Result<Self> {
        let mut this = Self { by_name: BTreeMap::new(), extensions: Vec::new() };
        this.look(root, Path::new("usr/lib"))?;
        Ok(this)
    }

    fn look(&mut self, root: &Path, folder: &Path) -> Result<()> {
        let about = || format!("cannot read {}", root.join(folder).display());
        for entry in fs::read_dir(root.join(folder)).with_context(about)? {
            let entry = entry.with_context(about)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = folder.join(&name);
            let is_folder = entry.file_type().with_context(about)?.is_dir();
            if is_folder && (name.ends_with("-linux-gnu") || name == "xtables") {
                self.look(root, &path)?;
            } else if folder.ends_with("xtables") {
                if EXTENSIONS.iter().any(|start| name.starts_with(start)) {
                    self.extensions.push(path);
                }
            } else if !is_folder {
                self.by_name.insert(name, path);
            }
        }
        self.extensions.sort();
        Ok(())
    }

    fn find(&self, name: &str) -> Result<PathBuf> {
        self.by_name.get(name).cloned().with_context(|| format!("no package has {name}"))
    }
}

/// What a program or library asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wants {
    loader: Option<String>,
    libraries: Vec<String>,
}

impl Wants {
    fn read(content: &[u8]) -> Result<Self> {
        let header = FileHeader64::<Endianness>::parse(content)?;
        let endian = header.endian()?;
        let mut wants = Self::default();
        for segment in header.program_headers(endian, content)? {
            if let Some(loader) = segment.interpreter(endian, content)? {
                wants.loader = Some(String::from_utf8(loader.to_vec())?);
            }
        }
        let sections = header.sections(endian, content)?;
        if let Some((entries, strings)) = sections.dynamic(endian, content)? {
            let strings = sections.strings(endian, content, strings)?;
            for entry in entries.iter().filter(|entry| entry.tag(endian) == DT_NEEDED) {
                wants.libraries.push(String::from_utf8(entry.string(endian, strings)?.to_vec())?);
            }
        }
        Ok(wants)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_of_this_machine_wants_its_loader_and_the_c_library() {
        let content = fs::read(std::env::current_exe().unwrap()).unwrap();
        let wants = Wants::read(&content).unwrap();
        assert!(wants.loader.is_some_and(|loader| loader.contains("ld-linux")), "tests are dynamic programs");
        assert!(wants.libraries.iter().any(|name| name.starts_with("libc.so")));
    }

    #[test]
    fn links_lead_below_the_root() {
        let joined = |path: &str, to: &str| joined(Path::new(path), Path::new(to)).ok();
        assert_eq!(joined("usr/sbin/a", "b"), Some("usr/sbin/b".into()));
        assert_eq!(joined("usr/sbin/a", "/etc/alternatives/a"), Some("etc/alternatives/a".into()));
        assert_eq!(joined("usr/sbin/a", "../lib/b"), Some("usr/lib/b".into()));
        assert_eq!(joined("a", "../../b"), None);
    }

    #[test]
    fn programs_are_followed_to_their_libraries() {
        let root = tempfile::tempdir().unwrap();
        let make = |path: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        };
        let program = make("usr/sbin/multi");
        fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        std::os::unix::fs::symlink("multi", make("usr/sbin/nft")).unwrap();
        fs::create_dir_all(root.path().join("usr/lib")).unwrap();
        let error = format!("{:#}", of(root.path(), &["nft"]).unwrap_err());
        assert!(error.contains("usr/sbin/multi needs ") && error.contains("no package has "), "{error}");
        let error = of(root.path(), &["other"]).unwrap_err().to_string();
        assert_eq!(error, "Debian's packages have no other");
    }
}
