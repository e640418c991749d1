//! Recordings: the agents' frames as they came, so that the same trace can be told again elsewhere.
//!
//! A file is the magic, then frames as on the wire. The first is the [`Header`] as JSON; each further one is
//! preceded by the little-endian `u16` number of the node that sent it. An empty frame of kind [`KIND_END`] says
//! that the node's stream ended.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::agent::codec::{RawFrame, read_raw, write_raw};
use crate::agent::frame::{FromAgent, KIND_JSON, PROTOCOL_VERSION};
use crate::path::Context;

const MAGIC: &[u8; 8] = b"podtrace";
const KIND_END: u8 = 255;

/// What a recording begins with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Header {
    /// Version of the frames.
    pub protocol: u32,
    /// Version of podtrace that wrote it.
    pub version: String,
    /// What the path engine has to know.
    pub context: Context,
    /// How many paths were asked for.
    pub count: Option<u64>,
}

impl Header {
    /// A header of this version.
    #[must_use]
    pub fn new(context: Context, count: Option<u64>) -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self { protocol: PROTOCOL_VERSION, version, context, count }
    }
}

/// Writes a recording.
#[derive(Debug)]
pub struct Writer(BufWriter<File>);

impl Writer {
    /// Begins a recording.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn create(path: &Path, header: &Header) -> Result<Self> {
        let file =
            File::create(path).with_context(|| format!("creating the recording {}", path.display()))?;
        let mut writer = Self(BufWriter::new(file));
        let body = serde_json::to_vec(header).context("writing the recording's header")?;
        writer
            .0
            .write_all(MAGIC)
            .and_then(|()| write_raw(&mut writer.0, &RawFrame { kind: KIND_JSON, body: body.into() }))
            .with_context(|| format!("writing the recording {}", path.display()))?;
        Ok(writer)
    }

    /// Adds a frame of a node, or the end of its stream.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn write(&mut self, node: usize, frame: Option<&FromAgent>) -> Result<()> {
        let node = u16::try_from(node).context("more nodes than a recording can number")?;
        let raw = frame.map_or(RawFrame { kind: KIND_END, body: Bytes::new() }, FromAgent::to_raw);
        self.0
            .write_all(&node.to_le_bytes())
            .and_then(|()| write_raw(&mut self.0, &raw))
            .context("writing the recording")
    }

    /// Makes sure that all is in the file.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn finish(mut self) -> Result<()> {
        self.0.flush().context("writing the recording")
    }
}

/// Reads a recording.
#[derive(Debug)]
pub struct Reader<R> {
    header: Header,
    frames: R,
}

impl Reader<BufReader<File>> {
    /// Opens a recording.
    ///
    /// # Errors
    ///
    /// If it cannot be read or is none of this version.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("opening the recording {}", path.display()))?;
        Self::new(BufReader::new(file)).with_context(|| format!("reading the recording {}", path.display()))
    }
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    ///
    /// If there is none, or one of another version.
    pub fn new(mut frames: R) -> Result<Self> {
        let mut magic = [0; MAGIC.len()];
        match frames.read_exact(&mut magic) {
            Err(error) if error.kind() != ErrorKind::UnexpectedEof => return Err(error.into()),
            _ if magic != *MAGIC => bail!("this is no recording of podtrace's (made by --record FILE)"),
            _ => {}
        }
        let raw = read_raw(&mut frames)?.context("the recording ends before its header")?;
        let header: Header = serde_json::from_slice(&raw.body).context("the recording's header")?;
        if header.protocol != PROTOCOL_VERSION {
            bail!(
                "it was written by podtrace {} (frames of version {}); this one reads version {PROTOCOL_VERSION}",
                header.version,
                header.protocol
            );
        }
        Ok(Self { header, frames })
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next frame with the number of its node; its end if there is no frame.
    ///
    /// # Errors
    ///
    /// If the file ends within a frame, or holds what is none.
    pub fn next_frame(&mut self) -> io::Result<Option<(usize, Option<FromAgent>)>> {
        let mut node = [0; 2];
        if self.frames.read(&mut node[..1])? == 0 {
            return Ok(None);
        }
        self.frames.read_exact(&mut node[1..])?;
        let node = usize::from(u16::from_le_bytes(node));
        if node >= self.header.context.nodes.len() {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                format!("a frame of node number {node}, which there is not"),
            ));
        }
        let raw = read_raw(&mut self.frames)?
            .ok_or_else(|| io::Error::new(ErrorKind::UnexpectedEof, "the recording ends within a frame"))?;
        let frame = if raw.kind == KIND_END { None } else { Some(FromAgent::from_raw(raw)?) };
        Ok(Some((node, frame)))
    }
}
