//! What podtrace writes: private, by one writer, never over what it reads; and what a full disk or a held lock does.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use podtrace_tests::command::{Running, SHORT, run, succeed};
use podtrace_tests::lab::{Lab, netns_path};
use podtrace_tests::suite::trial;
use podtrace_tests::trace::{self, Finished, Trace};
use podtrace_tests::{binary, recorded, wait};

use crate::{POD3, TRAFFIC};

/// A recording to read.
const RECORDING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/recordings/cross-node-ping.pcapng");

/// podtrace's own directory.
const RUN: &str = "/run/podtrace";

pub(crate) fn trials() -> Vec<Trial> {
    let none: &[&str] = &[];
    vec![
        trial("files-are-private", &["sh"], private),
        trial("a-file-has-one-writer", none, one_writer),
        trial("what-is-read-is-not-overwritten", none, not_overwritten),
        trial("a-full-disk-ends-a-trace-with-a-summary", &["unshare", "mount"], full_disk),
        trial("a-full-disk-ends-reading-with-a-summary", &["unshare", "mount"], full_disk_while_reading),
        trial("a-held-lab-names-its-holder", &["flock"], held_lab),
        trial("a-held-ledger-names-its-holder", &["flock", "tc"], held_ledger),
    ]
}

fn mode(path: &Path) -> Result<u32> {
    Ok(fs::metadata(path).with_context(|| path.display().to_string())?.mode() & 0o7777)
}

/// Whatever the umask is.
fn private() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = |name| directory.path().join(name);
    let lab = Lab::up("files-private")?;
    let mut command = trace::command(&lab, ["--from", "pod1", "--to", "pod3", "--probe", "icmp", "--write"]);
    command.arg(file("trace.pcapng")).arg("--html").arg(file("page.html"));
    command.args(["--expect", "delivered", "--junit"]).arg(file("junit.xml"));
    let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
    let output = run(Command::new("sh").args(["-c", "umask 0; exec \"$@\"", "sh"]).args(words), SHORT)?;
    Finished::from(output)?.complete()?;
    for name in ["trace.pcapng", "page.html", "junit.xml"] {
        let mode = mode(&file(name))?;
        ensure!(mode == 0o600, "{name} has the mode {mode:o}");
    }
    for path in [RUN.as_ref(), lab.inventory().parent().context("the lab's directory")?] {
        ensure!(mode(path)? == 0o700, "{} has the mode {:o}", path.display(), mode(path)?);
    }
    Ok(())
}

/// The second writer is refused, and the first one's file stays whole.
fn one_writer() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let lab = Lab::up("files-writer")?;
    let file = directory.path().join("trace.pcapng");
    let arguments = ["--from", "pod1", "--to", "pod3", "--write"].map(AsRef::as_ref);
    let trace = Trace::ready(&lab, arguments.into_iter().chain([file.as_os_str()]))?;
    lab.exec("pod1", [TRAFFIC, "echo", POD3, "3", "56"])?;
    for option in ["--write", "--html", "--junit"] {
        let mut second = Command::new(binary::podtrace()?);
        second.args(["read", RECORDING, "--expect", "delivered", option]).arg(&file);
        let output = run(&mut second, SHORT)?;
        let holder = format!("is being written by process {} (podtrace)", trace.process().id());
        ensure!(output.code() == 1 && output.stderr.contains(&holder), "{option}: {}", output.stderr);
    }
    let finished = trace.interrupt()?;
    finished.complete()?;
    recorded::tells_the_same(&finished, &[&file])
}

fn not_overwritten() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = |name| directory.path().join(name);
    fs::copy(RECORDING, file("input.pcapng"))?;
    fs::hard_link(file("input.pcapng"), file("hard.pcapng"))?;
    symlink(file("input.pcapng"), file("symbolic.pcapng"))?;
    for option in ["--html", "--junit", "--write"] {
        for name in ["input.pcapng", "hard.pcapng", "symbolic.pcapng"] {
            let mut command = Command::new(binary::podtrace()?);
            command.args(["read", "-q", "--expect", "delivered"]).arg(file("input.pcapng"));
            let output = run(command.arg(option).arg(file(name)), SHORT)?;
            ensure!(output.code() == 1, "{option} {name} ended with {}: {}", output.code(), output.stderr);
            ensure!(output.stdout.is_empty(), "{option} {name}: {}", output.stdout);
            ensure!(
                fs::read(file("input.pcapng"))? == fs::read(RECORDING)?,
                "{option} {name} changed the input"
            );
        }
    }
    Ok(())
}

/// A command on whose `DISK` only so many KiB have room.
fn with_a_small_disk(command: &Command, disk: &Path, kib: u32) -> Command {
    let script = format!("mount -t tmpfs -o size={kib}k none '{}' && exec \"$@\"", disk.display());
    let mut small = Command::new("unshare");
    small.args(["--mount", "sh", "-c", &script, "sh"]);
    small.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => small.env(name, value),
            None => small.env_remove(name),
        };
    }
    small
}

/// The trace ends by itself, and says what was seen.
fn full_disk() -> Result<()> {
    let disk = tempfile::tempdir()?;
    let lab = Lab::up("files-full")?;
    let mut command = trace::command(&lab, ["--from", "pod1", "--to", "pod3", "--write"]);
    command.arg(disk.path().join("trace.pcapng"));
    let mut trace = Running::start(&mut with_a_small_disk(&command, disk.path(), 128))?;
    trace.wait_for_line("tracing ", SHORT)?;
    let _traffic = lab.spawn("pod1", [TRAFFIC, "echo", POD3, "2000", "56"])?;
    let finished = Finished::from(trace.finish(SHORT)?)?;
    ensure!(finished.code == 1, "it ended with {}: {}", finished.code, finished.stderr);
    ensure!(finished.stderr.contains("No space left on device"), "{}", finished.stderr);
    let summary = finished.summary()?;
    ensure!(!summary.complete && !finished.paths.is_empty(), "{summary:?}");
    Ok(())
}

fn full_disk_while_reading() -> Result<()> {
    // How tmpfs counts.
    const BLOCK: u64 = 4096;
    // Each has room for its start, and not for the end: nearly all of a page is its start.
    for (option, part) in [("--write", 2), ("--html", 1)] {
        let disk = tempfile::tempdir()?;
        let output = disk.path().join("output");
        let mut command = Command::new(binary::podtrace()?);
        command.args(["read", "-o", "json", RECORDING, option]).arg(&output);
        succeed(&mut command, SHORT)?;
        let blocks = (fs::metadata(&output)?.len() - 1) / part / BLOCK;
        let kib = u32::try_from(blocks * BLOCK / 1024)?;
        let finished = Finished::from(run(&mut with_a_small_disk(&command, disk.path(), kib), SHORT)?)?;
        ensure!(finished.code == 1, "{option} ended with {}: {}", finished.code, finished.stderr);
        ensure!(finished.stderr.contains("No space left on device"), "{option}: {}", finished.stderr);
        ensure!(!finished.summary()?.complete, "{option}: {:?}", finished.summary);
    }
    Ok(())
}

/// A process that holds the lock of a file until it is killed.
fn holding(file: &Path) -> Result<Running> {
    let holder = Running::start(Command::new("flock").arg("--no-fork").arg(file).args(["sleep", "1000"]))?;
    wait::until("the lock is held", SHORT, || {
        let free = Command::new("flock").arg("-n").arg(file).arg("true").status()?.success();
        Ok((!free).then_some(()))
    })?;
    Ok(holder)
}

/// A wait for a lab's lock is not silent.
fn held_lab() -> Result<()> {
    let lab = Lab::up("files-held")?;
    let file = lab.inventory().with_file_name("lock");
    let holder = holding(&file)?;
    let mut up = Running::start(lab.podtrace().args(["lab", "up", "--rules", "none"]))?;
    let waits = format!("waiting for {}, which is locked by process {} (", file.display(), holder.id());
    up.wait_for_line(&waits, SHORT)?;
    holder.signal(Signal::SIGKILL)?;
    let up = up.finish(SHORT)?;
    ensure!(up.code() == 0, "{}", up.stderr);
    Ok(())
}

/// Nor is one for the file of a node's clsact filters.
fn held_ledger() -> Result<()> {
    let lab = Lab::up("files-ledger")?;
    let ledgers = Path::new(RUN).join("namespaces");
    fs::create_dir_all(&ledgers)?;
    let file = ledgers.join(fs::metadata(netns_path(lab.name(), "node1"))?.ino().to_string());
    let holder = holding(&file)?;
    let mut command = trace::command(&lab, ["--from", "pod1", "--to", "pod2", "--probe", "icmp"]);
    let mut trace = Running::start(command.env("PODTRACE_TC", "clsact"))?;
    let waits = format!("waiting for {}, which is locked by process {} (", file.display(), holder.id());
    trace.wait_for_line(&waits, SHORT)?;
    holder.signal(Signal::SIGKILL)?;
    Finished::from(trace.finish(SHORT)?)?.complete()?;
    Ok(())
}
