//! Writes cpio archives in the "newc" format, which the kernel unpacks as its first file system.
//!
//! <https://www.kernel.org/doc/html/latest/driver-api/early-userspace/buffer-format.html>

use std::collections::BTreeSet;
use std::path::{Component, Path};

use anyhow::{Result, bail};

/// File type bits of a mode, as in `stat`.
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;

/// An archive under construction. Archives can be strung together: the kernel unpacks one after the other.
#[derive(Default)]
pub(super) struct Cpio {
    bytes: Vec<u8>,
    inode: u32,
    directories: BTreeSet<String>,
}

impl Cpio {
    /// Adds a file and the directories above it. `path` is absolute in the guest.
    pub(super) fn file(&mut self, path: &Path, mode: u32, content: &[u8]) -> Result<()> {
        if let Some(parent) = path.parent() {
            self.directory(parent)?;
        }
        self.entry(&name(path)?, REGULAR | mode, content)
    }

    /// Adds a directory and those above it.
    pub(super) fn directory(&mut self, path: &Path) -> Result<()> {
        let mut above: Vec<_> = path.ancestors().filter(|path| path.parent().is_some()).collect();
        above.reverse();
        for directory in above {
            let name = name(directory)?;
            if self.directories.insert(name.clone()) {
                self.entry(&name, DIRECTORY | 0o755, &[])?;
            }
        }
        Ok(())
    }

    /// The finished archive.
    pub(super) fn finish(mut self) -> Result<Vec<u8>> {
        self.inode = 0;
        self.entry("TRAILER!!!", 0, &[])?;
        Ok(self.bytes)
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        let Ok(size) = u32::try_from(content.len()) else { bail!("{name} is too large for a cpio archive") };
        let name_size = u32::try_from(name.len() + 1)?;
        self.inode += 1;
        // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
        Ok(())
    }

    /// Names and contents begin at multiples of four.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// The name of an absolute path in the archive: without the leading slash.
fn name(path: &Path) -> Result<String> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir => {}
            Component::Normal(name) => match name.to_str() {
                Some(name) => names.push(name),
                None => bail!("the name of {} is not UTF-8", path.display()),
            },
            _ => bail!("{} is not an absolute path", path.display()),
        }
    }
    Ok(names.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_laid_out_as_the_kernel_reads_them() {
        let mut cpio = Cpio::default();
        cpio.file(Path::new("/a/b"), 0o755, b"hello").unwrap();
        let bytes = cpio.finish().unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.starts_with("0707010000000100 0041ed".replace(' ', "").as_str()), "{text}");
        assert_eq!(bytes.len() % 4, 0);
        let file = text.find("a/b\0").unwrap();
        assert_eq!(&text[file - 110..file - 96], "07070100000002");
        assert_eq!(&text[file - 96..file - 88], "000081ed", "regular, 0755");
        // 110 + 4 bytes of header and name: padded by 2.
        assert_eq!(&text[file + 4..file + 11], "\0\0hello");
        assert!(text.contains("TRAILER!!!\0"));
    }

    #[test]
    fn a_directory_is_added_once() {
        let mut cpio = Cpio::default();
        cpio.file(Path::new("/x/1"), 0o644, b"").unwrap();
        cpio.file(Path::new("/x/2"), 0o644, b"").unwrap();
        let bytes = cpio.finish().unwrap();
        assert_eq!(String::from_utf8_lossy(&bytes).matches("070701").count(), 4, "x, x/1, x/2, trailer");
        assert!(Cpio::default().directory(Path::new("../x")).is_err());
    }
}
