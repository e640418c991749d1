//! The page of a live trace: the same as that of its recording, and still there when the tracer is killed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use podtrace_tests::command::{SHORT, succeed};
use podtrace_tests::lab::Lab;
use podtrace_tests::suite::trial;
use podtrace_tests::trace::Trace;
use podtrace_tests::wait;

use crate::{POD3, TRAFFIC};

/// Time limit for paths to be reported.
const TOLD: Duration = Duration::from_secs(20);

pub(crate) fn trials() -> Vec<Trial> {
    let none: &[&str] = &[];
    vec![
        trial("the-page-of-a-trace-is-that-of-its-recording", none, live_and_recorded),
        trial("the-page-of-a-killed-tracer-has-what-was-reported", none, killed),
    ]
}

/// The elements with data of this class.
fn data(page: &Path, class: &str) -> Result<Vec<String>> {
    let start = format!("<script type=\"application/json\" class=\"{class}\">");
    let text = fs::read_to_string(page)?;
    Ok(text.lines().filter(|line| line.starts_with(&start)).map(str::to_owned).collect())
}

fn live_and_recorded() -> Result<()> {
    let lab = Lab::up("page")?;
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
    let (live, recording, again) = (path("live.html"), path("trace.pcapng"), path("again.html"));
    let arguments = ["--from", "pod1", "--to", "pod3", "--probe", "tcp", "--html", &live, "-w", &recording];
    let finished = Trace::start(&lab, arguments)?.finish()?;
    finished.complete()?;
    succeed(lab.podtrace().args(["read", &recording, "--html", &again]), SHORT)?;
    for (class, count) in [("path", finished.paths.len()), ("summary", 1)] {
        let (live, again) = (data(live.as_ref(), class)?, data(again.as_ref(), class)?);
        ensure!(live.len() == count, "{} elements are of class {class}", live.len());
        ensure!(live == again, "live:\n{}\nagain:\n{}", live.join("\n"), again.join("\n"));
    }
    Ok(())
}

fn killed() -> Result<()> {
    let lab = Lab::up("pagekill")?;
    let directory = tempfile::tempdir()?;
    let page = directory.path().join("page.html");
    let trace = Trace::ready(&lab, ["--from", "pod1", "--to", "pod3", "--html", &page.to_string_lossy()])?;
    lab.exec("pod1", [TRAFFIC, "echo", POD3, "2", "56"])?;
    wait::until("four paths are in the page", TOLD, || Ok((data(&page, "path")?.len() == 4).then_some(())))?;
    trace.process().signal(Signal::SIGKILL)?;
    drop(trace);
    ensure!(
        data(&page, "path")?.len() == 4 && data(&page, "summary")?.is_empty(),
        "it is as if it had ended"
    );
    Ok(())
}
