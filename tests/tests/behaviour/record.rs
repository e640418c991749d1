//! What was recorded is told again to the byte, by anybody and anywhere.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use podtrace_tests::binary;
use podtrace_tests::command::{SHORT, run};
use podtrace_tests::lab::Lab;
use podtrace_tests::suite::trial;
use podtrace_tests::trace::Trace;

pub(crate) fn trials() -> Vec<Trial> {
    let cases: [(&str, &[&str]); 3] = [
        ("replay-of-a-ping", &["--from", "pod1", "--to", "pod3", "--probe", "icmp"]),
        ("replay-of-a-rejection", &["--from", "pod1", "--to", "pod3", "--probe", "udp:9"]),
        ("replay-of-a-counted-trace", &["--from", "pod1", "--to", "pod3", "--probe", "tcp", "--count", "3"]),
    ];
    cases.map(|(name, arguments)| trial(name, &["setpriv"], move || as_it_was_told(name, arguments))).into()
}

fn as_it_was_told(name: &str, arguments: &[&str]) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let recording = directory.path().join("trace.pcapng");
    let told = {
        let lab = Lab::up(name)?;
        let arguments = arguments.iter().map(AsRef::as_ref);
        let recorded = ["--write".as_ref(), recording.as_os_str()];
        Trace::start(&lab, arguments.chain(recorded))?.finish()?
    };
    told.complete()?;
    ensure!(!told.paths.is_empty(), "nothing was told");
    // The lab is gone by now. Neither file nor binary may be where only root gets to.
    for path in [directory.path(), &recording] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
    }
    let own = directory.path().join("podtrace");
    std::fs::copy(binary::podtrace()?, &own)?;
    let again = run(nobody(&own).arg("read").arg(&recording).args(["-o", "json"]).current_dir("/"), SHORT)?;
    ensure!(again.code() == 0, "it ended with {}: {}", again.code(), again.stderr);
    ensure!(again.stdout == told.stdout, "live:\n{}\nagain:\n{}", told.stdout, again.stdout);

    let first = run(nobody(&own).arg("read").arg(&recording).args(["-o", "json", "--count", "1"]), SHORT)?;
    let paths = first.stdout.lines().filter(|line| line.starts_with("{\"type\":\"path\"")).count();
    ensure!(paths == 1, "--count 1 told {paths} paths");
    ensure!(told.stdout.lines().next() == first.stdout.lines().next(), "another path comes first");

    let bytes = std::fs::read(&recording).context("reading the recording")?;
    std::fs::write(&recording, &bytes[..bytes.len() / 2])?;
    let half = run(nobody(&own).arg("read").arg(&recording).args(["-o", "json"]), SHORT)?;
    ensure!(half.code() == 1 && half.stderr.contains("damaged"), "{} {}", half.code(), half.stderr);
    ensure!(half.stdout.contains("\"complete\":false"), "half a recording, and yet: {}", half.stdout);
    Ok(())
}

/// podtrace as a user without any rights.
fn nobody(podtrace: &std::path::Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--no-new-privs"]);
    command.arg(podtrace);
    command
}
