//! Decompression, by the machine's own programs: kernels use filters that only xz itself knows.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context as _, Result, bail, ensure};

use crate::{apt, run};

/// A compression by its magic number, the program that undoes it, and that one's Debian package.
const FORMATS: [(&[u8], &str, &str); 4] = [
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], "xz", "xz-utils"),
    (&[0x28, 0xb5, 0x2f, 0xfd], "zstd", "zstd"),
    (&[0x1f, 0x8b], "gzip", "gzip"),
    // The legacy frame, which the kernel's build uses.
    (&[0x02, 0x21, 0x4c, 0x18], "lz4", "lz4"),
];

/// What `bytes` decompress to; bytes of no known compression are returned as they are.
pub(super) fn unzip(bytes: Vec<u8>) -> Result<Vec<u8>> {
    let Some((_, program, package)) = FORMATS.iter().find(|(magic, ..)| bytes.starts_with(magic)) else {
        return Ok(bytes);
    };
    if run::find_program(program).is_none() {
        apt::install(&[package], "it decompresses kernels and their modules")?;
    }
    let mut child = Command::new(program)
        .arg("-dc")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    let mut stdin = child.stdin.take().context("the child's stdin was not piped")?;
    // Written by a thread of its own: both pipes would fill up otherwise.
    let writer = thread::spawn(move || stdin.write_all(&bytes));
    let output = child.wait_with_output().with_context(|| format!("cannot read from {program}"))?;
    let written = writer.join();
    if !output.status.success() {
        bail!("{program} -dc: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    ensure!(matches!(written, Ok(Ok(()))), "{program} did not take all of its input");
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_compressed_stays() {
        assert_eq!(unzip(b"\x7fELF".to_vec()).unwrap(), b"\x7fELF");
    }

    #[test]
    fn gzip_is_undone_and_damage_told() {
        let hello = [
            0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0, 0x86, 0xa6, 0x10,
            0x36, 5, 0, 0, 0,
        ];
        assert_eq!(unzip(hello.to_vec()).unwrap(), b"hello");
        assert!(unzip(hello[..12].to_vec()).is_err());
    }
}
