//! `podtrace read` with a choice among the recorded paths: no root, no packets, no kernel.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Result, ensure};
use podtrace_tests::command::{Output, SHORT, run};
use podtrace_tests::{binary, schema, suite};
use serde_json::Value;

/// Recording, options, and the numbers of the paths that are shown.
const CASES: [(&str, &[&str], &[u64]); 24] = [
    ("cross-node-ping", &["--filter", "icmp"], &[1, 2]),
    ("cross-node-ping", &["--filter", ""], &[1, 2]),
    ("cross-node-ping", &["--filter", "src host 10.42.0.10"], &[1]),
    ("cross-node-ping", &["--filter", "dst net 10.42.0.0/24 or tcp"], &[2]),
    // Outside of the tunnel, and of the whole path.
    ("cross-node-ping", &["--filter", "src host 192.168.56.12 and udp port 8472"], &[2]),
    ("cross-node-ping", &["--filter", "not udp port 8472"], &[]),
    ("same-node-ping", &["--filter", "not udp port 8472"], &[1, 2]),
    ("cross-node-ping", &["--filter", "ip6"], &[]),
    ("cross-node-ping", &["--from", "pod3", "--one-way"], &[2]),
    ("cross-node-ping", &["--from", "pod3"], &[1, 2]),
    ("cross-node-ping", &["--from", "pod2"], &[]),
    ("cross-node-ping", &["--from", "pod1", "--to", "node/node1"], &[]),
    ("cross-node-ping", &["--proto", "udp"], &[]),
    ("udp-closed-port", &["--filter", "icmp"], &[2]),
    ("udp-closed-port", &["--filter", "udp dst port 5000"], &[1]),
    ("udp-closed-port", &["--filter", "portrange 4000-6000 or 7"], &[1]),
    // The refusal is about the datagram.
    ("udp-closed-port", &["--from", "pod1", "--to", "pod3", "--port", "5000"], &[1, 2]),
    ("udp-closed-port", &["--port", "5001"], &[]),
    ("dead-pod", &["--from", "pod1", "--to", "pod3", "--one-way"], &[1, 2]),
    // Later fragments do not say what they are, and are part of what the first one is.
    ("fragments", &["--proto", "icmp", "--from", "pod1"], &[1, 2, 3]),
    ("fragments", &["--filter", "icmp and greater 1400"], &[1, 2]),
    ("tcp-connection", &["--to", "10.42.1.10:5000", "--count", "1"], &[1]),
    ("tcp-connection", &["--filter", "tcp dst port 80 or 5000"], &[1, 2]),
    ("tcp-connection", &["--filter", "tcp and not host 10.42.0.10"], &[]),
];

fn main() -> ExitCode {
    let mut trials: Vec<_> = CASES
        .into_iter()
        .map(|(recording, options, finished)| {
            suite::plain(format!("{recording} {}", options.join(" ")), move || {
                let output = read(recording, options)?;
                ensure!(output.code() == 0, "it ended with {}: {}", output.code(), output.stderr);
                ensure!(paths(&output)? == finished, "it reported {:?}", paths(&output)?);
                Ok(())
            })
        })
        .collect();
    trials.push(suite::plain("what-is-not-shown-is-counted", only_what_is_shown_is_counted));
    trials.push(suite::plain("a-filter-that-is-none", a_filter_that_is_none));
    suite::run(trials)
}

fn read(recording: &str, options: &[&str]) -> Result<Output> {
    let recording: PathBuf =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings").join(recording).with_extension("pcapng");
    run(
        Command::new(binary::podtrace()?).arg("read").arg(recording).args(["-o", "json"]).args(options),
        SHORT,
    )
}

fn paths(output: &Output) -> Result<Vec<u64>> {
    let lines = output.stdout.lines().map(schema::parse).collect::<Result<Vec<Value>>>()?;
    Ok(lines.iter().filter(|line| line["type"] == "path").filter_map(|path| path["id"].as_u64()).collect())
}

/// Verdicts are those of the shown paths; events are those of the whole trace.
fn only_what_is_shown_is_counted() -> Result<()> {
    let output = read("udp-closed-port", &["--filter", "icmp"])?;
    let summary = schema::parse(output.stdout.lines().last().unwrap_or_default())?;
    ensure!(summary["paths"]["delivered"] == 1 && summary["paths"]["rejected"] == 0, "{summary}");
    ensure!(summary["complete"] == true, "{summary}");
    let all = read("udp-closed-port", &[])?;
    let whole = schema::parse(all.stdout.lines().last().unwrap_or_default())?;
    ensure!(summary["events"] == whole["events"], "{summary} {whole}");
    Ok(())
}

fn a_filter_that_is_none() -> Result<()> {
    let output = read("udp-closed-port", &["--filter", "tcp port http"])?;
    let says = "column 10: `http` is not a port number";
    ensure!(output.code() == 2 && output.stderr.contains(says), "{} {}", output.code(), output.stderr);
    Ok(())
}
