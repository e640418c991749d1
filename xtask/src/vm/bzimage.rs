//! Takes the kernel proper out of a bzImage: QEMU enters an uncompressed kernel directly (PVH), which saves the
//! emulated CPU the decompression.
//!
//! <https://www.kernel.org/doc/html/latest/arch/x86/boot.html>: the set-up header tells where the payload is
//! (protocol 2.08, Linux 2.6.26).

use anyhow::{Context as _, Result, ensure};

use super::unzip::unzip;

const SETUP_SECTORS: usize = 0x1f1;
const MAGIC: usize = 0x202;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
const SECTOR: usize = 512;

/// The kernel as an ELF file.
pub(super) fn vmlinux(image: &[u8]) -> Result<Vec<u8>> {
    let elf = unzip(payload(image)?.to_vec()).context("cannot decompress the kernel")?;
    ensure!(elf.starts_with(b"\x7fELF"), "the image's payload is not a kernel in a compression known here");
    Ok(elf)
}

fn payload(image: &[u8]) -> Result<&[u8]> {
    ensure!(image.get(MAGIC..MAGIC + 4) == Some(b"HdrS"), "this is not a kernel image for x86");
    let sectors = match image[SETUP_SECTORS] {
        0 => 4,
        count => usize::from(count),
    };
    let start = (sectors + 1) * SECTOR + word(image, PAYLOAD_OFFSET)?;
    let length = word(image, PAYLOAD_LENGTH)?;
    let payload = start.checked_add(length).and_then(|end| image.get(start..end));
    let payload = payload.context("the kernel image is cut short")?;
    if payload.starts_with(&[0x1f, 0x8b]) {
        return Ok(payload);
    }
    // The build appends the uncompressed size, which the decompressors would take for rubbish. gzip has its own.
    let end = payload.len().checked_sub(4).context("the kernel image has no payload")?;
    Ok(&payload[..end])
}

fn word(image: &[u8], at: usize) -> Result<usize> {
    let bytes = image.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    let bytes = bytes.context("the kernel image is cut short")?;
    Ok(usize::try_from(u32::from_le_bytes(bytes))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 2 * SECTOR + 16];
        image[SETUP_SECTORS] = 1;
        image[MAGIC..MAGIC + 4].copy_from_slice(b"HdrS");
        image[PAYLOAD_OFFSET] = 16;
        image[PAYLOAD_LENGTH] = u8::try_from(payload.len()).unwrap();
        image.extend_from_slice(payload);
        image
    }

    #[test]
    fn the_payload_is_taken_without_its_size() {
        assert_eq!(vmlinux(&image(b"\x7fELF rest\x0c\0\0\0")).unwrap(), b"\x7fELF rest");
    }

    #[test]
    fn what_is_no_kernel_is_refused() {
        assert!(vmlinux(b"").is_err());
        assert!(vmlinux(&[0; 4096]).is_err());
        assert!(vmlinux(&image(b"something else")).is_err());
        let mut short = image(b"\x7fELF rest\x0c\0\0\0");
        short.truncate(short.len() - 1);
        assert!(vmlinux(&short).is_err());
    }
}
