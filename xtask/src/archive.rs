//! Archives that come out the same every time: everything is owned by root, has one time, and stands in the order given.

use std::io::Write as _;

use anyhow::{Context as _, Result};
use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header, HeaderMode};

/// A tar archive in memory.
pub(crate) struct Archive {
    builder: Builder<Vec<u8>>,
    /// Seconds since 1970.
    made_at: u64,
}

impl Archive {
    /// An empty one, whose files are of this time.
    pub(crate) fn new(made_at: u64) -> Self {
        let mut builder = Builder::new(Vec::new());
        builder.mode(HeaderMode::Deterministic);
        Self { builder, made_at }
    }

    pub(crate) fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        let mut header = self.header(EntryType::Regular, mode);
        header.set_size(u64::try_from(content.len())?);
        self.builder.append_data(&mut header, path, content).with_context(|| format!("cannot pack {path}"))
    }

    pub(crate) fn link(&mut self, path: &str, to: &str) -> Result<()> {
        let mut header = self.header(EntryType::Symlink, 0o777);
        self.builder.append_link(&mut header, path, to).with_context(|| format!("cannot pack {path}"))
    }

    pub(crate) fn directory(&mut self, path: &str, mode: u32) -> Result<()> {
        let mut header = self.header(EntryType::Directory, mode);
        self.builder.append_data(&mut header, path, &[][..]).with_context(|| format!("cannot pack {path}"))
    }

    pub(crate) fn finish(self) -> Result<Vec<u8>> {
        self.builder.into_inner().context("cannot finish an archive")
    }

    fn header(&self, kind: EntryType, mode: u32) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(self.made_at);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        header
    }
}

/// Compresses; the result has neither a name nor a time in it.
pub(crate) fn gzip(content: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    encoder.write_all(content).and_then(|()| encoder.finish()).context("cannot compress")
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn entries_are_of_root_and_of_one_time() {
        let mut archive = Archive::new(1_700_000_000);
        archive.directory("d", 0o755).unwrap();
        archive.file("d/program", 0o755, b"code").unwrap();
        archive.link("d/link", "program").unwrap();
        let packed = gzip(&archive.finish().unwrap()).unwrap();
        assert_eq!(&packed[4..8], [0; 4], "gzip's time");
        let mut unpacked = Vec::new();
        GzDecoder::new(&*packed).read_to_end(&mut unpacked).unwrap();
        let mut archive = tar::Archive::new(&*unpacked);
        let found: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
                assert_eq!(header.mtime().unwrap(), 1_700_000_000);
                (entry.path().unwrap().display().to_string(), header.mode().unwrap())
            })
            .collect();
        let expected = [("d", 0o755), ("d/program", 0o755), ("d/link", 0o777)];
        assert_eq!(found, expected.map(|(path, mode)| (path.to_owned(), mode)));
    }
}
