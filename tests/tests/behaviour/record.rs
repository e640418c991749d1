//! Reading a recording gives the same output to the byte, for any user on any machine.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use podtrace_tests::command::{SHORT, run};
use podtrace_tests::lab::Lab;
use podtrace_tests::suite::trial;
use podtrace_tests::trace::{self, Trace};
use podtrace_tests::{binary, hooks, recorded, wait};

use crate::{POD3, TRAFFIC};

/// How the last comment of a path begins that arrived.
const DELIVERED: &[u8] = "✓ delivered".as_bytes();

pub(crate) fn trials() -> Vec<Trial> {
    let cases: [(&str, &[&str]); 3] = [
        ("replay-of-a-ping", &["--from", "pod1", "--to", "pod3", "--probe", "icmp"]),
        ("replay-of-a-rejection", &["--from", "pod1", "--to", "pod3", "--probe", "udp:9"]),
        ("replay-of-a-counted-trace", &["--from", "pod1", "--to", "pod3", "--probe", "tcp", "--count", "3"]),
    ];
    let mut trials: Vec<_> = cases
        .map(|(name, arguments)| trial(name, &["setpriv"], move || as_it_was_told(name, arguments)))
        .into();
    trials.push(trial("instructions-keep-to-their-budget", &[] as &[&str], keep_to_their_budget));
    trials.push(trial("a-killed-tracer-leaves-a-file", &recorded::TOOLS, killed));
    trials.push(trial("a-file-a-part", &recorded::TOOLS, in_parts));
    trials.push(trial("to-tshark-by-a-pipe", &["tshark", "sh"], by_a_pipe));
    trials.push(trial("a-reader-that-is-gone-does-not-end-the-file", &["sh"], reader_is_gone));
    trials.push(trial("fewer-bytes-tell-the-same", &recorded::TOOLS, fewer_bytes));
    trials
}

/// A recording contains the number of instructions that the verifier processed.
fn keep_to_their_budget() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("trace.pcapng");
    let lab = Lab::up("budget")?;
    let arguments = ["--from", "pod1", "--to", "pod3", "--probe", "icmp", "--write"].map(AsRef::as_ref);
    Trace::start(&lab, arguments.into_iter().chain([file.as_os_str()]))?.finish()?.complete()?;
    let hooks = hooks::of_recording(&file)?;
    ensure!(hooks.iter().any(|hook| !hook["how"].is_null()), "nothing is attached: {hooks:?}");
    hooks::within_budget(&hooks)
}

/// However a tracer ends, the file contains everything that it had reported, for podtrace and for other programs.
fn killed() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("trace.pcapng");
    let lab = Lab::up("record-killed")?;
    let arguments = ["--from", "pod1", "--to", "pod3", "--write"].map(AsRef::as_ref);
    let trace = Trace::ready(&lab, arguments.into_iter().chain([file.as_os_str()]))?;
    lab.exec("pod1", [TRAFFIC, "echo", POD3, "20", "56"])?;
    let delivered = || {
        let bytes = std::fs::read(&file).unwrap_or_default();
        bytes.windows(DELIVERED.len()).filter(|window| *window == DELIVERED).count()
    };
    wait::until("every path is in the file", SHORT, || Ok((delivered() == 40).then_some(())))?;
    trace.process().signal(Signal::SIGKILL)?;
    let finished = recorded::read(&[&file])?;
    ensure!(finished.code() == 1 && finished.stderr.contains("the end is missing"), "{}", finished.stderr);
    ensure!(finished.stdout.matches("\"verdict\":\"delivered\"").count() == 40, "{}", finished.stdout);
    ensure!(finished.stdout.contains("\"complete\":false"), "{}", finished.stdout);
    ensure!(recorded::packets(&file)?.len() >= 40 * 8, "tshark shows fewer packets");
    Ok(())
}

/// All parts together give the live output, and each can be read alone.
fn in_parts() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("trace.pcapng");
    let lab = Lab::up("record-parts")?;
    let arguments = ["--from", "pod1", "--to", "pod3", "--rotate", "60k", "--write"].map(AsRef::as_ref);
    let trace = Trace::ready(&lab, arguments.into_iter().chain([file.as_os_str()]))?;
    for _ in 0..5 {
        lab.exec("pod1", [TRAFFIC, "echo", POD3, "10", "56"])?;
    }
    let finished = trace.interrupt()?;
    finished.complete()?;
    let mut parts: Vec<_> =
        directory.path().read_dir()?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    parts.sort();
    ensure!(parts.len() >= 3 && parts[0].ends_with("trace_00001.pcapng"), "{parts:?}");
    let parts: Vec<&Path> = parts.iter().map(PathBuf::as_path).collect();
    recorded::tells_the_same(&finished, &parts)?;
    let mut delivered = 0;
    for part in &parts {
        recorded::packets(part)?;
        let alone = recorded::read(&[part])?;
        ensure!(
            alone.code() == 1 && alone.stderr.contains("the recording is damaged"),
            "{part:?}: {}",
            alone.stderr
        );
        delivered += alone.stdout.matches("\"verdict\":\"delivered\"").count();
    }
    ensure!(delivered == finished.paths.len(), "{delivered} of {} paths in parts", finished.paths.len());
    let gap = recorded::read(&[parts[0], parts[2]])?;
    ensure!(
        gap.code() == 1
            && gap.stderr.contains("trace_00003.pcapng: part 2, which comes before it, is missing"),
        "{}",
        gap.stderr
    );
    Ok(())
}

fn by_a_pipe() -> Result<()> {
    let lab = Lab::up("record-pipe")?;
    let podtrace = binary::podtrace()?.to_string_lossy().into_owned();
    let inventory = lab.inventory().to_string_lossy().into_owned();
    let script = format!(
        "'{podtrace}' --cluster '{inventory}' --from pod1 --to pod3 --probe icmp -w - \
         | tshark -n -r - -d udp.port==8472,vxlan"
    );
    let shown = run(Command::new("sh").arg("-c").arg(script), SHORT)?;
    let pings = shown.stdout.lines().filter(|line| line.contains("Echo (ping) request")).count();
    ensure!(shown.code() == 0 && pings == 8, "{}{}", shown.stdout, shown.stderr);
    Ok(())
}

/// Who reads the paths may have seen enough before who wants the file.
fn reader_is_gone() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("trace.pcapng");
    let lab = Lab::up("record-gone")?;
    let mut command = trace::command(&lab, ["--from", "pod1", "--to", "pod3", "--probe", "icmp"]);
    command.args(["--count", "6", "--write"]).arg(&file);
    let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
    let head = run(Command::new("sh").args(["-c", "\"$@\" | head -n 1", "sh"]).args(words), SHORT)?;
    ensure!(head.stdout.lines().count() == 1, "{}{}", head.stdout, head.stderr);
    let finished = recorded::read(&[&file])?;
    ensure!(
        finished.code() == 0
            && finished.stdout.lines().filter(|line| line.starts_with("{\"type\":\"path\"")).count() == 6,
        "{}{}",
        finished.stdout,
        finished.stderr
    );
    Ok(())
}

/// What a trace tells goes by the bytes that it keeps.
fn fewer_bytes() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("trace.pcapng");
    let lab = Lab::up("record-snaplen")?;
    let arguments = ["--from", "pod1", "--to", "pod3", "--snaplen", "128", "--write"].map(AsRef::as_ref);
    let trace = Trace::ready(&lab, arguments.into_iter().chain([file.as_os_str()]))?;
    lab.exec("pod1", [TRAFFIC, "echo", POD3, "3", "500"])?;
    let finished = trace.interrupt()?;
    finished.complete()?;
    recorded::tells_the_same(&finished, &[&file])?;
    recorded::agrees(&finished, &recorded::packets(&file)?)?;
    ensure!(finished.paths.iter().all(|path| path.hops.len() == 8), "{}", finished.stdout);
    Ok(())
}

fn as_it_was_told(name: &str, arguments: &[&str]) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let recording = directory.path().join("trace.pcapng");
    let finished = {
        let lab = Lab::up(name)?;
        let arguments = arguments.iter().map(AsRef::as_ref);
        let recorded = ["--write".as_ref(), recording.as_os_str()];
        Trace::start(&lab, arguments.chain(recorded))?.finish()?
    };
    finished.complete()?;
    ensure!(!finished.paths.is_empty(), "nothing was reported");
    // The lab is gone by now. Neither file nor binary may be where only root gets to.
    for path in [directory.path(), &recording] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
    }
    let own = directory.path().join("podtrace");
    binary::copy_to(&own)?;
    let again = run(nobody(&own).arg("read").arg(&recording).args(["-o", "json"]).current_dir("/"), SHORT)?;
    ensure!(again.code() == 0, "it ended with {}: {}", again.code(), again.stderr);
    ensure!(again.stdout == finished.stdout, "live:\n{}\nagain:\n{}", finished.stdout, again.stdout);

    let first = run(nobody(&own).arg("read").arg(&recording).args(["-o", "json", "--count", "1"]), SHORT)?;
    let paths = first.stdout.lines().filter(|line| line.starts_with("{\"type\":\"path\"")).count();
    ensure!(paths == 1, "--count 1 reported {paths} paths");
    ensure!(finished.stdout.lines().next() == first.stdout.lines().next(), "another path comes first");

    let bytes = std::fs::read(&recording).context("reading the recording")?;
    std::fs::write(&recording, &bytes[..bytes.len() / 2])?;
    let half = run(nobody(&own).arg("read").arg(&recording).args(["-o", "json"]), SHORT)?;
    ensure!(
        half.code() == 1 && half.stderr.contains("the recording is damaged"),
        "{} {}",
        half.code(),
        half.stderr
    );
    ensure!(half.stdout.contains("\"complete\":false"), "half a recording, and yet: {}", half.stdout);
    Ok(())
}

/// podtrace as a user without privileges.
fn nobody(podtrace: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--no-new-privs"]);
    command.arg(podtrace);
    command
}
