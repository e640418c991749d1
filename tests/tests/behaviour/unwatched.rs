//! A trace without a tap where packets pass never looks whole.

use std::process::Command;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use podtrace_path::Unwatched;
use podtrace_tests::attached;
use podtrace_tests::command::{SHORT, run};
use podtrace_tests::lab::Lab;
use podtrace_tests::suite::trial;
use podtrace_tests::trace::{self, Finished};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("no-tap-at-all-is-an-error", &["unshare", "mount"], no_tap),
        trial("a-missing-tap-makes-a-trace-incomplete", &["tc"], missing_tap),
    ]
}

/// clsact filters are entered in a file first. Its disk is full.
fn no_tap() -> Result<()> {
    let lab = Lab::up("no-tap")?;
    let script = "mkdir -p /run/podtrace/namespaces && cd /run/podtrace/namespaces \
                  && mount -t tmpfs -o size=4k,mode=700 none . && cd /run/podtrace/namespaces \
                  && head -c 4096 /dev/zero > full && exec \"$@\"";
    let command = trace::command(&lab, ["--from", "pod1", "--to", "pod3", "--probe", "icmp"]);
    let mut full = Command::new("unshare");
    full.args(["--mount", "sh", "-c", script, "sh"]).arg(command.get_program()).args(command.get_args());
    full.env("PODTRACE_TC", "clsact").env("HOME", "/nonexistent").env("NO_COLOR", "1");
    let output = run(&mut full, SHORT)?;
    ensure!(output.code() == 1 && output.stdout.is_empty(), "{}: {}", output.code(), output.stdout);
    ensure!(
        output.stderr.contains("could not watch any of") && output.stderr.contains("No space left on device"),
        "{}",
        output.stderr
    );
    ensure!(attached::agents(&lab)?.is_empty(), "an agent is left");
    Ok(())
}

/// An ingress qdisc, which another program uses, has no side for packets that a device sends.
fn missing_tap() -> Result<()> {
    let lab = Lab::up("missing-tap")?;
    lab.exec("node1", ["tc", "qdisc", "add", "dev", "cni0", "ingress"])?;
    for (expectation, held) in [
        ("any(via cni0)", true),
        ("complete", false),
        // What may have been seen at that place is not known.
        ("none(dropped)", false),
        ("delivered", false),
    ] {
        let arguments = ["--from", "pod1", "--to", "pod3", "--probe", "icmp", "--expect", expectation];
        let mut command = trace::command(&lab, arguments);
        let finished = Finished::from(run(command.env("PODTRACE_TC", "clsact"), SHORT)?)?;
        let summary = finished.summary()?;
        let place =
            Unwatched { node: "node1".to_owned(), device: "cni0".to_owned(), point: "tc:egress".to_owned() };
        ensure!(!summary.complete && summary.unwatched == [place], "{summary:?}\n{}", finished.stderr);
        ensure!(finished.stderr.contains("nothing was seen at node1 cni0 tc:egress"), "{}", finished.stderr);
        let status = if held { 0 } else { 3 };
        ensure!(finished.code == status, "{expectation} ended with {}: {}", finished.code, finished.stderr);
    }
    Ok(())
}
