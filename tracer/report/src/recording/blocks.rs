//! Splits a pcapng file into blocks. After damage, searches for the next valid block.

use std::io::{self, Read};

use super::block::{ENTRY, LARGEST};

/// Bytes to read at once.
const CHUNK: usize = 64 << 10;
/// The largest block to search for after damage: packets are much smaller.
const LARGEST_SOUGHT: u32 = 64 << 10;
/// The smallest block: type, length, length again.
const SMALLEST: u32 = 12;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const STATISTICS: u32 = 5;
const PACKET: u32 = 6;

/// Damage between blocks.
#[derive(Debug)]
pub(super) enum Broken {
    /// These bytes are not a block; the next call continues after them.
    Skipped { from: u64, to: u64 },
    /// There are no more blocks from here on.
    Ends { at: u64 },
    /// The file cannot be read.
    Unreadable { at: u64, error: io::Error },
}

/// Reads blocks.
#[derive(Debug)]
pub(super) struct Blocks<R> {
    source: R,
    buffer: Vec<u8>,
    /// Where in the buffer the next block begins.
    at: usize,
    /// Where in the file the buffer begins.
    offset: u64,
    exhausted: bool,
}

impl<R: Read> Blocks<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, buffer: Vec::new(), at: 0, offset: 0, exhausted: false }
    }

    /// Peeks at the first bytes.
    pub(super) fn beginning(&mut self) -> io::Result<&[u8]> {
        self.fill(SMALLEST as usize)?;
        Ok(self.rest())
    }

    /// Whether these are the first bytes of a little-endian pcapng file, as podtrace writes it.
    pub(super) fn is_section(beginning: &[u8]) -> bool {
        const MAGIC: u32 = 0x1a2b_3c4d;
        word(beginning, 0) == Some(SECTION) && word(beginning, 8) == Some(MAGIC)
    }

    /// The next complete block; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, Broken> {
        let at = self.place();
        let unreadable = |error| Broken::Unreadable { at, error };
        self.fill(8).map_err(unreadable)?;
        if self.rest().is_empty() {
            return Ok(None);
        }
        match self.length_here(LARGEST) {
            Some(length) => {
                self.fill(length).map_err(unreadable)?;
                if self.is_block_of(length) {
                    let block = self.rest()[..length].to_vec();
                    self.at += length;
                    return Ok(Some(block));
                }
            }
            None if self.rest().len() < 8 => return Err(self.end(at)),
            None => {}
        }
        self.seek(at)
    }

    /// Searches for the next block after damage.
    fn seek(&mut self, from: u64) -> Result<Option<Vec<u8>>, Broken> {
        loop {
            self.at += 1;
            self.fill(LARGEST_SOUGHT as usize)
                .map_err(|error| Broken::Unreadable { at: self.place(), error })?;
            if self.rest().len() < SMALLEST as usize {
                return Err(self.end(from));
            }
            let known =
                matches!(word(self.rest(), 0), Some(SECTION | INTERFACE | STATISTICS | PACKET | ENTRY));
            if known && self.length_here(LARGEST_SOUGHT).is_some_and(|length| self.is_block_of(length)) {
                return Err(Broken::Skipped { from, to: self.place() - 1 });
            }
        }
    }

    fn end(&mut self, at: u64) -> Broken {
        self.at = self.buffer.len();
        Broken::Ends { at }
    }

    fn place(&self) -> u64 {
        self.offset + self.at as u64
    }

    fn rest(&self) -> &[u8] {
        self.buffer.get(self.at..).unwrap_or_default()
    }

    /// The length in the header of a block here.
    fn length_here(&self, largest: u32) -> Option<usize> {
        let length = word(self.rest(), 4)?;
        ((SMALLEST..=largest).contains(&length) && length.is_multiple_of(4)).then_some(length as usize)
    }

    /// Whether the block's trailing length matches.
    fn is_block_of(&self, length: usize) -> bool {
        word(self.rest(), length - 4) == u32::try_from(length).ok()
    }

    /// Reads until this many bytes are available, or the file ends. The buffer grows as bytes arrive, so that a wrong length
    /// costs no memory.
    fn fill(&mut self, wanted: usize) -> io::Result<()> {
        while self.rest().len() < wanted && !self.exhausted {
            if self.at >= CHUNK {
                self.buffer.drain(..self.at);
                self.offset += self.at as u64;
                self.at = 0;
            }
            let before = self.buffer.len();
            let read = self.source.by_ref().take(CHUNK as u64).read_to_end(&mut self.buffer)?;
            self.exhausted = read == 0;
            debug_assert_eq!(self.buffer.len(), before + read);
        }
        Ok(())
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(kind: u32, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len()).unwrap() + SMALLEST;
        [&kind.to_le_bytes(), &length.to_le_bytes(), content, &length.to_le_bytes()].concat()
    }

    /// The blocks that are found, and what is said of the rest.
    fn read(bytes: &[u8]) -> (Vec<Vec<u8>>, Vec<String>) {
        let mut blocks = Blocks::new(bytes);
        let (mut found, mut broken) = (Vec::new(), Vec::new());
        loop {
            match blocks.next() {
                Ok(Some(block)) => found.push(block),
                Ok(None) => return (found, broken),
                Err(error) => broken.push(format!("{error:?}")),
            }
        }
    }

    #[test]
    fn blocks_follow_on_one_another() {
        let (one, other) = (block(PACKET, &[1; 100]), block(77, &[]));
        let (found, broken) = read(&[one.clone(), other.clone()].concat());
        assert_eq!((found, broken), (vec![one, other], vec![]));
    }

    #[test]
    fn after_damage_the_next_block_is_found() {
        let (one, other) = (block(PACKET, &[1; 100]), block(ENTRY, &[2; 8]));
        let mut bytes = [one.clone(), one.clone(), other.clone(), one.clone()].concat();
        let begins = one.len();
        bytes[begins + 4] ^= 4;
        let (found, broken) = read(&bytes);
        assert_eq!(found, [one.clone(), other, one]);
        assert_eq!(broken, [format!("Skipped {{ from: {begins}, to: {} }}", 2 * begins - 1)]);
    }

    #[test]
    fn a_cut_is_reported_wherever_it_is() {
        let whole = block(PACKET, &[1; 20]);
        let bytes = [whole.clone(), block(PACKET, &[2; 20])].concat();
        for cut in whole.len() + 1..bytes.len() {
            let (found, broken) = read(&bytes[..cut]);
            assert_eq!(found, std::slice::from_ref(&whole), "cut at {cut}");
            assert_eq!(broken, [format!("Ends {{ at: {} }}", whole.len())], "cut at {cut}");
        }
    }
}
