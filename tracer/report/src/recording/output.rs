//! Writes a recording to a file, to stdout, or to rotated files.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::entry::Header;
use super::writer::Writer;
use podtrace_path::{Path as Way, Summary, Update};
use podtrace_protocol::frame::FromAgent;

/// Destination of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The file; `-` is stdout.
    pub path: PathBuf,
    /// Start a new file at this size.
    pub rotate: Option<Rotation>,
}

/// When to start a new file, and how many to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Size in bytes at which a new file is started.
    pub size: u64,
    /// Number of files to keep; all if `None`.
    pub keep: Option<u32>,
}

impl Target {
    /// Whether it is stdout.
    #[must_use]
    pub fn is_stdout(&self) -> bool {
        self.path == Path::new("-")
    }

    /// Whether writing to it would destroy this file.
    #[must_use]
    pub fn overwrites(&self, file: &Path) -> bool {
        let identity = |path: &Path| path.canonicalize().ok();
        !self.is_stdout() && identity(&self.file(1)).is_some_and(|own| Some(own) == identity(file))
    }

    /// The name of a part's file.
    fn file(&self, part: u32) -> PathBuf {
        if self.rotate.is_none() {
            return self.path.clone();
        }
        let stem = self.path.file_stem().unwrap_or_default().to_string_lossy();
        let extension = self.path.extension().map(|extension| format!(".{}", extension.to_string_lossy()));
        self.path.with_file_name(format!("{stem}_{part:05}{}", extension.unwrap_or_default()))
    }
}

/// Writes a recording during a trace. Each write is of complete blocks, so that the file can be read at any time.
pub struct Recorder {
    writer: Writer,
    target: Target,
    out: Box<dyn Write + Send>,
    /// Size of the current file in bytes.
    written: u64,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").field("target", &self.target).finish_non_exhaustive()
    }
}

impl Recorder {
    /// Starts a recording.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn create(target: Target, header: Header) -> Result<Self> {
        let out = open(&target, header.part)?;
        let mut recorder = Self { writer: Writer::new(header), target, out, written: 0 };
        recorder.flush()?;
        Ok(recorder)
    }

    /// Adds a node's next frame, or the end of its stream.
    pub fn frame(&mut self, node: usize, frame: Option<&FromAgent>) {
        self.writer.frame(node, frame);
    }

    /// Adds a cluster change, between two frames.
    pub fn update(&mut self, update: &Update) {
        self.writer.update(update);
    }

    /// Adds a finished path.
    ///
    /// # Errors
    ///
    /// If a file is full, and it or the next one cannot be written.
    pub fn path(&mut self, path: &Way) -> Result<()> {
        self.writer.path(path);
        let so_far = self.written + self.writer.waiting() as u64;
        if self.target.rotate.is_some_and(|rotation| so_far >= rotation.size) { self.flush() } else { Ok(()) }
    }

    /// Writes all complete blocks.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn flush(&mut self) -> Result<()> {
        self.write()?;
        if let Some(Rotation { size, keep }) = self.target.rotate
            && self.written >= size
        {
            self.writer.next_part();
            let part = self.writer.part();
            self.out = open(&self.target, part)?;
            self.written = 0;
            self.write()?;
            if let Some(old) = keep.and_then(|keep| part.checked_sub(keep)).filter(|old| *old > 0) {
                let file = self.target.file(old);
                match std::fs::remove_file(&file) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(error).with_context(|| {
                            format!("removing the recording's old file {}", file.display())
                        });
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn write(&mut self) -> Result<()> {
        let bytes = self.writer.take();
        if bytes.is_empty() {
            return Ok(());
        }
        self.written += bytes.len() as u64;
        self.out
            .write_all(&bytes)
            .and_then(|()| self.out.flush())
            .with_context(|| format!("writing the recording {}", self.target.path.display()))
    }

    /// Ends the recording.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn finish(mut self, summary: &Summary) -> Result<()> {
        self.writer.end(summary);
        self.write()
    }
}

fn open(target: &Target, part: u32) -> Result<Box<dyn Write + Send>> {
    if target.is_stdout() {
        return Ok(Box::new(io::stdout()));
    }
    let path = target.file(part);
    let file = File::create(&path).with_context(|| format!("creating the recording {}", path.display()))?;
    Ok(Box::new(file))
}
