//! The status line: on a terminal it comes and goes without a trace, elsewhere there is none.

use std::process::Command;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use podtrace_tests::command::{SHORT, succeed};
use podtrace_tests::lab::Lab;
use podtrace_tests::suite::trial;

/// Back to the line's begin, and nothing on it.
const ERASE: &str = "\r\u{1b}[2K";

/// Only the status line says that.
const STATUS: &str = " in flight · ";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("the-status-line-leaves-no-trace", &["script", "stty"], no_trace),
        trial("no-status-line-where-nobody-looks", &["script", "stty"], nobody_looks),
    ]
}

/// What podtrace writes to a terminal that is so many columns wide.
fn on_terminal(lab: &Lab, columns: u16, options: &str, environment: &[(&str, &str)]) -> Result<String> {
    let podtrace = lab.podtrace();
    let line = format!(
        "stty rows 30 cols {columns} && exec {} --cluster {} --from pod1 --to pod3 --probe icmp {options}",
        podtrace.get_program().display(),
        lab.inventory().display()
    );
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]).env("TERM", "xterm");
    for (name, value) in podtrace.get_envs() {
        if let Some(value) = value {
            script.env(name, value);
        }
    }
    script.envs(environment.iter().copied());
    Ok(succeed(&mut script, SHORT)?.stdout)
}

/// What is to be seen after all that was erased.
fn seen(written: &str) -> String {
    written
        .replace("\r\n", "\n")
        .split('\n')
        .map(|line| line.rsplit_once(ERASE).map_or(line, |(_, rest)| rest))
        .collect::<Vec<_>>()
        .join("\n")
}

fn no_trace() -> Result<()> {
    let lab = Lab::up("status")?;
    let written = on_terminal(&lab, 120, "", &[])?;
    ensure!(written.contains(STATUS), "there is no status line:\n{written}");
    let seen = seen(&written);
    ensure!(!seen.contains(STATUS) && !seen.contains('\r'), "something of it is left:\n{seen}");
    ensure!(seen.contains("2 paths: 2 delivered"), "the trace is garbled:\n{seen}");
    ensure!(seen.matches("✓ delivered in ").count() == 2, "the trace is garbled:\n{seen}");
    Ok(())
}

fn nobody_looks() -> Result<()> {
    let lab = Lab::up("nostatus")?;
    for (why, columns, options, environment) in [
        ("-q", 120, "-q", ("TERM", "xterm")),
        ("a terminal that cannot be drawn on", 120, "", ("TERM", "dumb")),
        ("stdout is no terminal", 120, "| cat", ("TERM", "xterm")),
        ("stderr is no terminal", 120, "2>/dev/null", ("TERM", "xterm")),
        ("no room for it", 30, "", ("TERM", "xterm")),
    ] {
        let written = on_terminal(&lab, columns, options, &[environment])?;
        ensure!(!written.contains(STATUS), "there is a status line although {why}:\n{written}");
        ensure!(written.contains("2 paths: 2 delivered"), "{why}:\n{written}");
    }
    Ok(())
}
