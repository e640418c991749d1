//! One guest: boots a kernel under QEMU, runs one script in it, and takes in what it says.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::cpio::Cpio;
use super::kernel::Kernel;
use super::qemu;

const INIT: &str = include_str!("init.sh");

/// What the guest's init says on the second serial port when the script has ended.
const EXIT: &str = "@vm exit ";

/// What is booted.
pub(super) struct Guest<'a> {
    pub(super) kernel: &'a Kernel,
    /// Static busybox.
    pub(super) busybox: &'a Path,
    /// A finished archive with what the script uses.
    pub(super) payload: &'a [u8],
    /// How long the guest may take, from launch to exit.
    pub(super) within: Duration,
    /// Where its logs go.
    pub(super) logs: PathBuf,
    /// Further devices, in QEMU's words.
    pub(super) devices: Vec<String>,
}

/// How a guest's script ended.
pub(super) struct Ended {
    /// What it said, line by line.
    pub(super) lines: Vec<String>,
    /// Its exit status.
    pub(super) status: i32,
    /// From launch to exit.
    pub(super) took: Duration,
}

impl Guest<'_> {
    /// The kernel's messages.
    pub(super) fn console(&self) -> PathBuf {
        self.logs.join("console.log")
    }

    /// What the script said.
    pub(super) fn output(&self) -> PathBuf {
        self.logs.join("output.log")
    }

    /// Boots, has busybox's sh run the script, shuts down. `on_line` sees each line as it comes.
    pub(super) fn run(&self, script: &str, mut on_line: impl FnMut(&str)) -> Result<Ended> {
        let started = Instant::now();
        fs::create_dir_all(&self.logs).with_context(|| format!("cannot create {}", self.logs.display()))?;
        let initrd = self.logs.join("initrd");
        self.write_initrd(&initrd, script)?;
        let output = self.output();
        let mut log = File::create(&output).with_context(|| format!("cannot create {}", output.display()))?;

        let mut machine =
            Machine::launch(qemu::command(&self.kernel.vmlinux, &initrd, &self.console(), &self.devices))?;
        let mut lines = Vec::new();
        let mut status = None;
        let problem = loop {
            match machine.next_line(self.within.saturating_sub(started.elapsed())) {
                Ok(Some(line)) => {
                    writeln!(log, "{line}").context("cannot write the guest's output")?;
                    if let Some(code) = line.strip_prefix(EXIT) {
                        status = code.trim().parse().ok();
                    } else {
                        on_line(&line);
                        lines.push(line);
                    }
                }
                Ok(None) => break None,
                Err(Overdue) => {
                    break Some(format!("did not come to an end within {} s", self.within.as_secs()));
                }
            }
        };
        let said = machine.end()?;
        // Large, and made anew each time.
        let _ = fs::remove_file(&initrd);
        match (problem, status) {
            (None, Some(status)) => Ok(Ended { lines, status, took: started.elapsed() }),
            (Some(problem), _) => bail!("the guest {problem}; {}", self.where_to_look()),
            (None, None) => {
                bail!("the guest went down before its script had ended; {}{said}", self.where_to_look());
            }
        }
    }

    /// Where the logs are.
    pub(super) fn where_to_look(&self) -> String {
        format!("its console is in {}, its output in {}", self.console().display(), self.output().display())
    }

    fn write_initrd(&self, path: &Path, script: &str) -> Result<()> {
        let busybox =
            fs::read(self.busybox).with_context(|| format!("cannot read {}", self.busybox.display()))?;
        let mut base = Cpio::default();
        base.file(Path::new("/init"), 0o755, INIT.as_bytes())?;
        base.file(Path::new("/bin/busybox"), 0o755, &busybox)?;
        base.file(Path::new("/command"), 0o644, script.as_bytes())?;
        let modules = &self.kernel.modules;
        let modules = fs::read(modules).with_context(|| format!("cannot read {}", modules.display()))?;
        let mut file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
        for part in [&base.finish()?, &modules, self.payload] {
            file.write_all(part).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

/// The guest took longer than it may.
struct Overdue;

/// A running QEMU; killed if dropped.
struct Machine {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Machine {
    fn launch(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot run QEMU")?;
        let stdout = child.stdout.take().context("the child's stdout was not piped")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            let mut reader = BufReader::new(stdout);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                let text = String::from_utf8_lossy(&line);
                if sender.send(text.trim_end_matches(['\r', '\n']).to_owned()).is_err() {
                    break;
                }
                line.clear();
            }
        });
        Ok(Self { child, lines })
    }

    /// The next line the guest says; nothing once it is down.
    fn next_line(&mut self, within: Duration) -> Result<Option<String>, Overdue> {
        match self.lines.recv_timeout(within) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => Err(Overdue),
        }
    }

    /// Ends it if it still runs; what QEMU itself had to say.
    fn end(mut self) -> Result<String> {
        // It has ended already in the best case.
        let _ = self.child.kill();
        let mut said = String::new();
        if let Some(stderr) = self.child.stderr.take() {
            for line in BufReader::new(stderr).lines().map_while(Result::ok).filter(|line| !line.is_empty()) {
                said += &format!("\n  {line}");
            }
        }
        let ended = self.child.wait().context("cannot wait for QEMU")?;
        ensure!(ended.code() != Some(127), "QEMU could not be started:{said}");
        Ok(said)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
