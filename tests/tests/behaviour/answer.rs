//! What a trace amounts to: the numbers agree with what was sent, and the text fits a screen.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use podtrace_tests::command::{SHORT, run};
use podtrace_tests::lab::Lab;
use podtrace_tests::suite::trial;
use podtrace_tests::trace::Trace;
use serde_json::{Value, json};

use crate::{POD3, TRAFFIC};

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("many-packets-are-summed", &[] as &[&str], summed)]
}

/// Echoes that are sent, all answered.
const ECHOES: u64 = 60;

/// Counts of echoes and of a connection that is refused agree with what was sent, live and in the recording's texts.
fn summed() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("trace.pcapng");
    let lab = Lab::up("answer")?;
    let arguments = ["--from", "pod1", "--to", "pod3", "--write"].map(AsRef::as_ref);
    let trace = Trace::ready(&lab, arguments.into_iter().chain([file.as_os_str()]))?;
    lab.exec("pod1", [TRAFFIC, "echo", POD3, &ECHOES.to_string(), "56"])?;
    let refused = run(&mut lab.command("pod1", [TRAFFIC, "udp", POD3, "9", "1", "56"]), SHORT)?;
    let enough = 2 * usize::try_from(ECHOES)? + 2;
    let finished = trace.interrupt_once(|paths| paths.len() >= enough).context(refused.stderr)?;
    finished.complete()?;

    let of = |kind: &'static str| finished.totals.iter().filter(move |value| value["type"] == kind);
    let totals = of("totals").next().context("there are no totals")?;
    let echo =
        totals["exchanges"].as_array().into_iter().flatten().find(|exchange| exchange["kind"] == "echo");
    let echo = echo.context("there are no echoes")?;
    ensure!(echo["asked"] == json!(ECHOES) && echo["answered"] == json!(ECHOES), "{echo}");
    ensure!(echo["rtt"]["count"] == json!(ECHOES), "each was timed: {echo}");
    let flow = of("flow").find(|flow| flow["proto"] == "icmp" && flow["paths"]["delivered"] == 2 * ECHOES);
    let flow = flow.context("there is no flow of the echoes")?;
    ensure!(
        flow["request"]["packets"] == json!(ECHOES) && flow["reply"]["packets"] == json!(ECHOES),
        "{flow}"
    );
    let all = finished.paths.len() as u64;
    let sum = |value: &Value| {
        value["paths"].as_object().map_or(0, |paths| paths.values().filter_map(Value::as_u64).sum())
    };
    let (flows, routes): (u64, u64) = (of("flow").map(sum).sum(), of("route").map(sum).sum());
    ensure!(flows == all && routes == all, "{all} paths, {flows} in flows, {routes} in routes");
    let causes: Vec<_> = of("cause").collect();
    ensure!(causes.len() == 1 && causes[0]["count"] == 1 && causes[0]["verdict"] == "rejected", "{causes:?}");
    texts(&lab, &file, all)
}

/// The text folds, and its end names the failure; the other outputs and `--failed` show what they say.
fn texts(lab: &Lab, file: &Path, paths: u64) -> Result<()> {
    let read = |options: &[&str]| -> Result<String> {
        let output = run(lab.podtrace().arg("read").arg(file).args(options), SHORT)?;
        ensure!(output.code() == 0, "{options:?}: {}", output.stderr);
        Ok(output.stdout)
    };
    let starts =
        |text: &str| text.lines().filter(|line| line.starts_with(['✓', '✗', '?', '!'])).count() as u64;
    let answered = format!("{ECHOES} echo requests, {ECHOES} answered, 0% unanswered · rtt min/avg/p99/max ");
    let text = read(&[])?;
    ensure!(text.contains(" more like #") && starts(&text) < paths, "nothing is folded:\n{text}");
    ensure!(text.contains("CAUSES  1 packet failed") && text.contains(&answered), "{text}");
    ensure!(starts(&read(&["--all"])?) == paths, "--all shows all");
    let failed = read(&["--failed"])?;
    ensure!(starts(&failed) == 1 && failed.contains("✗ REFUSED #"), "{failed}");
    ensure!(failed.contains(&format!("{} paths are not shown", paths - 1)), "{failed}");
    let summary = read(&["-o", "summary"])?;
    ensure!(starts(&summary) == 0 && summary.starts_with("FAILED  1 of "), "{summary}");
    ensure!(summary.lines().count() <= 45 && summary.contains(&answered), "{summary}");
    let flows = read(&["-o", "flows", "--verdict", "rejected"])?;
    ensure!(flows.contains("1 REFUSED") && !flows.contains(" icmp "), "{flows}");
    Ok(())
}
