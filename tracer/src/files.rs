//! The files that a user names for output: recordings, pages, JUnit files. They hold payload and names.
//!
//! Input: a path, and the files that are being read. Output: an open file, empty and locked. In this order:
//!
//! 1. The last part of the path is not followed if it is a symbolic link. `/dev/stdout` and the like name this process's own
//!    descriptors, and a link to a device or pipe has nothing to lose.
//! 2. A file that is being read is refused, under whatever name; so is one with other names, or of another user, who could
//!    read what is written.
//! 3. It is locked until it is closed: two writers would damage it.
//! 4. Only then it is emptied. Only its owner may read it: under sudo, the user who called sudo.
//!
//! Limits: links in the directories of the path are followed. File systems without locks have none.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::{Flock, OFlag};
use nix::unistd::geteuid;

use crate::lock;
use podtrace_report::recording::{Header, Recorder, Target};

/// Only the owner reads and writes.
const PRIVATE: u32 = 0o600;

/// What names an open file of this process rather than a file.
const OWN_DESCRIPTORS: [&str; 4] = ["/dev/stdout", "/dev/stderr", "/dev/fd", "/proc/self/fd"];

/// The files that a command reads, which its outputs must not overwrite.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inputs(Vec<PathBuf>);

impl Inputs {
    /// These files.
    pub fn new(files: impl IntoIterator<Item = PathBuf>) -> Self {
        Self(files.into_iter().collect())
    }

    fn contain(&self, file: &std::fs::Metadata) -> bool {
        self.0.iter().any(|input| {
            std::fs::metadata(input).is_ok_and(|input| (input.dev(), input.ino()) == (file.dev(), file.ino()))
        })
    }
}

/// A file to write.
#[derive(Debug)]
pub enum OutputFile {
    /// Of this process alone.
    Locked(Flock<File>),
    /// A device or pipe, or a file where there are no locks.
    Unlocked(File),
}

impl OutputFile {
    /// The open file.
    #[must_use]
    pub fn file(&self) -> &File {
        match self {
            Self::Locked(file) => file,
            Self::Unlocked(file) => file,
        }
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file().flush()
    }
}

/// Creates a file, or empties an existing one.
///
/// # Errors
///
/// If that is impossible, or not safe; the error names neither the path nor its option.
pub fn create(path: &Path, inputs: &Inputs) -> Result<OutputFile> {
    let file = open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(OutputFile::Unlocked(file));
    }
    ensure!(!inputs.contain(&metadata), "it would overwrite a file that is being read");
    if is_own_descriptor(path) {
        file.set_len(0)?;
        return Ok(OutputFile::Unlocked(file));
    }
    ensure!(metadata.nlink() <= 1, "it has other names (hard links): remove it first, or name another file");
    let owner = metadata.uid();
    ensure!(
        owner == geteuid().as_raw() || caller().is_some_and(|(user, _)| user == owner),
        "it belongs to another user (id {owner}), who could read it: remove it first, or name another file"
    );
    let file = match lock::try_take(file, lock::Kind::Exclusive) {
        Ok(Ok(lock)) => OutputFile::Locked(lock),
        Ok(Err(file)) => bail!("it is being written by {}", lock::holder(&file)),
        Err(_) => OutputFile::Unlocked(open(path)?),
    };
    if metadata.mode() & 0o7777 & !PRIVATE != 0 {
        file.file().set_permissions(Permissions::from_mode(PRIVATE))?;
    }
    file.file().set_len(0)?;
    Ok(file)
}

/// Starts a recording.
///
/// # Errors
///
/// If a file cannot be created, or another process writes a recording of the same name.
pub fn recorder(target: Target, header: Header, inputs: Inputs) -> Result<Recorder> {
    if target.rotate.is_some() {
        ensure_free(&target)?;
    }
    let open = move |path: &Path| -> Result<Box<dyn Write + Send>> {
        if path == Path::new("-") {
            return Ok(Box::new(io::stdout()));
        }
        Ok(Box::new(create(path, &inputs)?))
    };
    Recorder::create(target, header, Box::new(open))
}

/// Refuses a rotated recording of which another process is writing any part.
fn ensure_free(target: &Target) -> Result<()> {
    let directory = match target.path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // What is wrong with the directory shows when a file is created in it.
    let Ok(entries) = std::fs::read_dir(directory) else { return Ok(()) };
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| target.is_part(path)) {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
        let Ok(file) = options.open(&path) else { continue };
        if let Ok(Err(file)) = lock::try_take(file, lock::Kind::Shared) {
            let holder = lock::holder(&file);
            bail!("creating the recording {}: it is being written by {holder}", path.display());
        }
    }
    Ok(())
}

/// Opens a file for writing and leaves its content. A new one is private from the start.
fn open(path: &Path) -> Result<File> {
    loop {
        // Without O_CREAT: in /tmp, kernels refuse it for files of others, even to root.
        match OpenOptions::new().write(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) if error.raw_os_error() == Some(Errno::ELOOP as i32) => return open_link(path),
            opened => return Ok(opened?),
        }
        match OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(path) {
            // Somebody else has just created it.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.into()),
            Ok(file) => {
                if let Some((user, group)) = caller() {
                    // It stays root's if this fails, as on a file system without owners.
                    let _ = fchown(&file, Some(user), Some(group));
                }
                return Ok(file);
            }
        }
    }
}

/// Opens what a symbolic link leads to, if that is no file, or if it is one that the shell has opened for this process.
fn open_link(path: &Path) -> Result<File> {
    let file = OpenOptions::new().write(true).open(path)?;
    ensure!(
        is_own_descriptor(path) || !file.metadata()?.is_file(),
        "it is a symbolic link: remove it first, or name the file that it leads to"
    );
    Ok(file)
}

fn is_own_descriptor(path: &Path) -> bool {
    let own = OWN_DESCRIPTORS.map(Path::new);
    own.contains(&path) || path.parent().is_some_and(|parent| own.contains(&parent))
}

/// User and group who called sudo, if this process runs as root by it.
fn caller() -> Option<(u32, u32)> {
    if !geteuid().is_root() {
        return None;
    }
    let number = |name| std::env::var(name).ok()?.parse().ok();
    Some((number("SUDO_UID")?, number("SUDO_GID")?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn refusal(path: &Path, inputs: &Inputs) -> String {
        create(path, inputs).unwrap_err().to_string()
    }

    #[test]
    fn only_the_owner_may_read_what_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let (new, old) = (directory.path().join("new"), directory.path().join("old"));
        std::fs::write(&old, "older and longer").unwrap();
        std::fs::set_permissions(&old, Permissions::from_mode(0o644)).unwrap();
        for path in [new, old] {
            let mut file = create(&path, &Inputs::default()).unwrap();
            file.write_all(b"text").unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, PRIVATE);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "text");
        }
    }

    #[test]
    fn no_link_leads_to_another_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name| directory.path().join(name);
        std::fs::write(path("precious"), "precious").unwrap();
        symlink(path("precious"), path("symbolic")).unwrap();
        symlink(path("absent"), path("dangling")).unwrap();
        std::fs::hard_link(path("precious"), path("hard")).unwrap();
        symlink("/dev/null", path("null")).unwrap();
        assert!(refusal(&path("symbolic"), &Inputs::default()).contains("symbolic link"));
        create(&path("dangling"), &Inputs::default()).unwrap_err();
        assert!(!path("absent").exists());
        assert!(refusal(&path("hard"), &Inputs::default()).contains("other names"));
        assert_eq!(std::fs::read_to_string(path("precious")).unwrap(), "precious");
        create(&path("null"), &Inputs::default()).unwrap();
    }

    #[test]
    fn a_file_that_is_read_is_not_overwritten_under_any_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name| directory.path().join(name);
        std::fs::write(path("input"), "input").unwrap();
        std::fs::hard_link(path("input"), path("hard")).unwrap();
        symlink(path("input"), path("symbolic")).unwrap();
        let inputs = Inputs::new([path("symbolic"), path("absent")]);
        for name in ["input", "hard"] {
            assert!(refusal(&path(name), &inputs).contains("is being read"), "{name}");
        }
        assert_eq!(std::fs::read_to_string(path("input")).unwrap(), "input");
    }

    #[test]
    fn a_file_has_one_writer() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mut first = create(&path, &Inputs::default()).unwrap();
        first.write_all(b"first").unwrap();
        let refusal = refusal(&path, &Inputs::default());
        assert!(refusal.contains(&format!("being written by process {} (", std::process::id())), "{refusal}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "first");
        drop(first);
        create(&path, &Inputs::default()).unwrap();
    }

    #[test]
    fn a_rotated_recording_has_one_writer_whichever_part_it_writes() {
        let directory = tempfile::tempdir().unwrap();
        let target = Target {
            path: directory.path().join("trace.pcapng"),
            rotate: Some(podtrace_report::recording::Rotation { size: 1 << 20, keep: Some(1) }),
        };
        let part = create(&directory.path().join("trace_00007.pcapng"), &Inputs::default()).unwrap();
        let refusal = ensure_free(&target).unwrap_err().to_string();
        assert!(refusal.contains("trace_00007.pcapng: it is being written"), "{refusal}");
        drop(part);
        let _other = create(&directory.path().join("trace_x.pcapng"), &Inputs::default()).unwrap();
        ensure_free(&target).unwrap();
    }
}
