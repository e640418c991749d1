//! Command lines in the habits of kubectl and tcpdump, on real packets. What each means is in a table of the command line's own
//! tests (`cli/command_lines.yaml`).

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use podtrace_tests::binary;
use podtrace_tests::command::{Running, SHORT, run, succeed};
use podtrace_tests::lab::{Lab, podtrace};
use podtrace_tests::suite::trial;
use podtrace_tests::trace::Trace as Tracing;

use crate::POD3;

/// Time limit for a trace, on a machine that is busy.
const LONG: Duration = Duration::from_secs(45);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("ends-of-all-kinds-are-traced", &[""; 0], ends),
        trial("options-stand-before-a-command", &[""; 0], before_a_command),
        trial("help-completion-stdin-and-stdout", &[""; 0], no_root),
        trial("a-mistyped-command-is-recognised", &[""; 0], mistyped),
        trial("recordings-are-compared", &[""; 0], compared),
    ]
}

fn mistyped() -> Result<()> {
    let lab = Lab::up("mistyped")?;
    for (word, hint) in
        [("topolgy", Some("podtrace topology")), ("drop", Some("podtrace drops")), ("pod9", None)]
    {
        let output = run(lab.podtrace().arg(word).arg("--cluster").arg(lab.inventory()), SHORT)?;
        let says = output.stderr.contains("; did you mean the command `");
        ensure!(output.code() == 1 && says == hint.is_some(), "{word}: {output:?}");
        ensure!(hint.is_none_or(|hint| output.stderr.contains(hint)), "{word}: {output:?}");
    }
    Ok(())
}

/// Needs no root and no cluster.
fn compared() -> Result<()> {
    let recordings = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings");
    let file = |name: &str| recordings.join(format!("{name}.pcapng"));
    let diff = |before: &str, after: &str, format: &str| {
        let mut command = podtrace(&binary::podtrace()?);
        run(command.arg("diff").arg(file(before)).arg(file(after)).args(["-o", format]), SHORT)
    };
    let same = diff("cross-node-ping", "cross-node-ping", "text")?;
    ensure!(same.code() == 0 && same.stdout.contains("CAUSES  no failure in either trace"), "{same:?}");
    let worse = diff("cross-node-ping", "nft-forward-drop", "text")?;
    ensure!(worse.code() == 3 && worse.stdout.contains("+ new ×1  DROPPED on node1"), "{worse:?}");
    let better = diff("nft-forward-drop", "cross-node-ping", "json")?;
    let difference: serde_json::Value = serde_json::from_str(&better.stdout)?;
    let cause = &difference["causes"][0];
    ensure!(better.code() == 0 && cause["before"] == 1 && cause["after"] == 0, "{better:?}");
    let missing = diff("cross-node-ping", "no-such-recording", "text")?;
    ensure!(missing.code() == 1 && missing.stderr.contains("no-such-recording"), "{missing:?}");
    Ok(())
}

/// Probes from pod1 to pod3, by what the command line names; and what is outside of it stays outside.
fn ends() -> Result<()> {
    let lab = Lab::up("habits")?;
    for (words, paths) in [
        ("pod1 pod3 --probe icmp", 2),
        ("pod/pod1 pods/pod3 --probe icmp icmp", 2),
        ("-A pod1 pod3 --probe icmp", 2),
        ("pod1 -l app=pod3 --probe icmp", 2),
        ("--from pod1 --to pod3 --to pod4 --probe icmp", 2),
        ("pod1 pod3 tcp --probe icmp", 0),
    ] {
        let finished = Tracing::start(&lab, words.split(' '))?.finish()?;
        ensure!(finished.paths.len() == paths, "{words}: {paths} paths were expected:\n{}", finished.stdout);
    }
    // Networks: the eBPF programs match any address, so that what is outside is seen, and not shown.
    for network in ["10.42.1.0/24", "10.42.1.10/32", "0.0.0.0/0"] {
        let mut command = lab.podtrace();
        command.arg("--cluster").arg(lab.inventory()).args(["pod1", "--to", network, "--count", "2"]);
        let mut tracing = Running::start(&mut command)?;
        tracing.wait_for_line("tracing ", LONG)?;
        if network != "0.0.0.0/0" {
            lab.exec("pod1", ["ping", "-c", "1", "10.42.0.11"])?;
        }
        lab.exec("pod1", ["ping", "-c", "1", POD3])?;
        let text = tracing.finish(LONG)?.stdout;
        ensure!(text.contains("2 paths: 2 delivered") && text.contains(POD3), "{network}:\n{text}");
        ensure!(!text.contains("10.42.0.11"), "{network}:\n{text}");
    }
    Ok(())
}

fn before_a_command() -> Result<()> {
    let lab = Lab::up("before")?;
    let mut command = lab.podtrace();
    command.arg("--cluster").arg(lab.inventory()).args(["topology", "-o", "json"]);
    let output = succeed(&mut command, SHORT)?;
    ensure!(output.stdout.starts_with('{') && output.stdout.contains("node2"), "{output:?}");
    let mut command = lab.podtrace();
    command.arg("--cluster").arg(lab.inventory()).arg("demo");
    let output = run(&mut command, SHORT)?;
    ensure!(
        output.code() == 2
            && output.stderr.contains("'--cluster'")
            && output.stderr.contains("podtrace demo"),
        "{output:?}"
    );
    Ok(())
}

fn no_root() -> Result<()> {
    let podtrace = || -> Result<Command> { Ok(podtrace(&binary::podtrace()?)) };
    let output = succeed(&mut podtrace()?, SHORT)?;
    ensure!(output.stdout.contains("Usage: podtrace [OPTIONS] [FROM [TO]]"), "{output:?}");
    let output = succeed(podtrace()?.args(["completion", "bash"]), SHORT)?;
    ensure!(output.stdout.contains("_podtrace()"), "{output:?}");

    let recording = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings/cross-node-ping.pcapng");
    let by_name = succeed(podtrace()?.arg("read").arg(&recording), SHORT)?;
    let mut reading = podtrace()?;
    reading.args(["read", "-"]).stdin(Stdio::from(File::open(&recording)?)).stderr(Stdio::inherit());
    let by_stdin = String::from_utf8(reading.output()?.stdout)?;
    ensure!(by_stdin == by_name.stdout, "{by_stdin}");

    let directory = tempfile::tempdir()?;
    let own = directory.path().join("own.pcapng");
    fs::copy(&recording, &own)?;
    let mut over = podtrace()?;
    over.args(["read", "-", "-w"]).arg(&own).stdin(Stdio::from(File::open(&own)?));
    let over = over.output()?;
    ensure!(
        over.status.code() == Some(1) && String::from_utf8_lossy(&over.stderr).contains("being read"),
        "{over:?}"
    );

    let page = succeed(podtrace()?.arg("read").arg(&recording).args(["--html", "-"]), SHORT)?;
    ensure!(
        page.stdout.starts_with("<!DOCTYPE html>") && page.stdout.trim_end().ends_with("</html>"),
        "{page:?}"
    );
    let both = run(podtrace()?.arg("read").arg(&recording).args(["--html", "-", "-w", "-"]), SHORT)?;
    ensure!(both.code() == 2 && both.stderr.contains("name a file for one"), "{both:?}");
    Ok(())
}
