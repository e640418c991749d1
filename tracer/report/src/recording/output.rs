//! Writes a recording to a file, to stdout, or to rotated files. Whoever starts it says how files are opened.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

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
    /// Size in bytes at which a new file is started. What each file repeats at its start does not count.
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

    /// Whether a file has the name of a part of this rotated recording.
    #[must_use]
    pub fn is_part(&self, file: &Path) -> bool {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let stem = self.path.file_stem().unwrap_or_default().to_string_lossy();
        let number = name.strip_prefix(&*stem).and_then(|rest| rest.strip_prefix('_'));
        let digits = number.map(|number| number.chars().take_while(char::is_ascii_digit).collect::<String>());
        digits
            .and_then(|digits| digits.parse().ok())
            .is_some_and(|part| self.rotate.is_some() && self.file(part).file_name() == file.file_name())
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

/// Opens a file of a recording for writing, and empties it; `-` is stdout.
pub type Open = Box<dyn FnMut(&Path) -> Result<Box<dyn Write + Send>> + Send>;

/// Writes a recording during a trace. Each write is of complete blocks, so that the file can be read at any time.
pub struct Recorder {
    writer: Writer,
    target: Target,
    open: Open,
    out: Box<dyn Write + Send>,
    /// Size in bytes of what the current file repeats at its start.
    head: u64,
    /// Size in bytes of what follows.
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
    /// If the file cannot be written, or is to be rotated at a size that its start alone exceeds.
    pub fn create(target: Target, header: Header, mut open: Open) -> Result<Self> {
        let part = header.part;
        let writer = Writer::new(header);
        let head = writer.waiting() as u64;
        ensure!(
            target.rotate.is_none_or(|rotation| rotation.size >= head),
            "each file of this recording begins with {head} bytes about the cluster: --rotate needs more than that"
        );
        let out = open_part(&mut open, &target, part)?;
        let mut recorder = Self { writer, target, open, out, head, written: 0 };
        recorder.write_head()?;
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
        if self.is_full(self.written + self.writer.waiting() as u64) { self.flush() } else { Ok(()) }
    }

    /// Whether a file is full with so many bytes after its start. It has at least as many as its start: otherwise, most of
    /// all files would be what they repeat.
    fn is_full(&self, written: u64) -> bool {
        self.target.rotate.is_some_and(|rotation| written >= rotation.size.max(self.head))
    }

    /// Writes all complete blocks.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn flush(&mut self) -> Result<()> {
        self.written += self.write()?;
        if !self.is_full(self.written) {
            return Ok(());
        }
        self.writer.next_part();
        let part = self.writer.part();
        self.out = open_part(&mut self.open, &self.target, part)?;
        self.write_head()?;
        let keep = self.target.rotate.and_then(|rotation| rotation.keep);
        if let Some(old) = keep.and_then(|keep| part.checked_sub(keep)).filter(|old| *old > 0) {
            let file = self.target.file(old);
            match std::fs::remove_file(&file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error)
                        .with_context(|| format!("removing the recording's old file {}", file.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes the start of a file.
    fn write_head(&mut self) -> Result<()> {
        self.head = self.write()?;
        self.written = 0;
        Ok(())
    }

    /// Returns the number of bytes.
    fn write(&mut self) -> Result<u64> {
        let bytes = self.writer.take();
        if !bytes.is_empty() {
            self.out
                .write_all(&bytes)
                .and_then(|()| self.out.flush())
                .with_context(|| format!("writing the recording {}", self.target.path.display()))?;
        }
        Ok(bytes.len() as u64)
    }

    /// Ends the recording.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn finish(mut self, summary: &Summary) -> Result<()> {
        self.writer.end(summary);
        self.write()?;
        Ok(())
    }
}

fn open_part(open: &mut Open, target: &Target, part: u32) -> Result<Box<dyn Write + Send>> {
    let path = target.file(part);
    open(&path).with_context(|| format!("creating the recording {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use podtrace_path::Context;

    /// Bytes of each file.
    type Sizes = Arc<Mutex<Vec<usize>>>;

    struct Sink(Sizes);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            *self.0.lock().unwrap().last_mut().unwrap() += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn target(size: u64) -> Target {
        Target { path: "trace.pcapng".into(), rotate: Some(Rotation { size, keep: None }) }
    }

    fn start(size: u64, sizes: &Sizes) -> Result<Recorder> {
        let header = Header::new(Context { nodes: vec!["node1".to_owned()], ..Context::default() });
        let sizes = Arc::clone(sizes);
        let open = move |_: &Path| -> Result<Box<dyn Write + Send>> {
            sizes.lock().unwrap().push(0);
            Ok(Box::new(Sink(Arc::clone(&sizes))))
        };
        Recorder::create(target(size), header, Box::new(open))
    }

    /// As much as nodes say of themselves, again at the start of each file.
    #[test]
    fn files_are_not_made_of_what_they_repeat() {
        let sizes = Sizes::default();
        let mut recorder = start(1_000, &sizes).unwrap();
        let symbols = (0..500).map(|address| (address, format!("function{address}"))).collect();
        recorder.frame(0, Some(&FromAgent::Symbols(symbols)));
        recorder.flush().unwrap();
        for _ in 0..200 {
            recorder.frame(0, Some(&FromAgent::Warning { text: "x".repeat(100) }));
            recorder.flush().unwrap();
        }
        recorder.finish(&Summary::default()).unwrap();
        let sizes = sizes.lock().unwrap();
        assert!(sizes.len() > 2, "{sizes:?}");
        let repeated = 200 * 100 / sizes.len();
        assert!(sizes.len() < 6, "{} files for {repeated} bytes each: {sizes:?}", sizes.len());
    }

    #[test]
    fn a_size_below_the_start_of_a_file_is_refused() {
        let sizes = Sizes::default();
        let error = start(100, &sizes).unwrap_err().to_string();
        assert!(error.contains("--rotate needs more than that"), "{error}");
        assert!(sizes.lock().unwrap().is_empty(), "a file was created");
    }

    #[test]
    fn parts_are_known_by_their_names() {
        let target = target(1);
        for (name, is_part) in [
            ("dir/trace_00001.pcapng", true),
            ("trace_123456.pcapng", true),
            ("trace_1.pcapng", false),
            ("trace_00001.pcap", false),
            ("trace.pcapng", false),
            ("trace_.pcapng", false),
            ("other_00001.pcapng", false),
        ] {
            assert_eq!(target.is_part(Path::new(name)), is_part, "{name}");
        }
        assert!(!Target { rotate: None, ..target }.is_part(Path::new("trace_00001.pcapng")));
    }
}
