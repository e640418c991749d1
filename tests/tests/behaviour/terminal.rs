//! The terminal: the status line comes and goes without a trace, elsewhere there is none; and lines fit the width.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use podtrace_tests::binary;
use podtrace_tests::command::{SHORT, run, succeed};
use podtrace_tests::lab::Lab;
use podtrace_tests::suite::trial;

/// Back to the line's begin, and nothing on it.
const ERASE: &str = "\r\u{1b}[2K";

/// Only the status line says that.
const STATUS: &str = " · nothing lost · 0:";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("the-status-line-leaves-no-trace", &["script", "stty"], no_trace),
        trial("no-status-line-where-nobody-looks", &["script", "stty"], nobody_looks),
        trial("a-status-line-beside-a-file", &["script", "stty"], beside_a_file),
        trial("lines-fit-the-terminal", &["script", "stty"], lines_fit),
    ]
}

/// A shell's command line on a pseudo-terminal, with `PODTRACE` and `INVENTORY` in it filled in.
pub(crate) fn script(lab: &Lab, line: &str) -> Command {
    let podtrace = lab.podtrace();
    let line = line
        .replace("PODTRACE", &podtrace.get_program().to_string_lossy())
        .replace("INVENTORY", &lab.inventory().to_string_lossy());
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]).env("TERM", "xterm");
    for (name, value) in podtrace.get_envs() {
        if let Some(value) = value {
            script.env(name, value);
        }
    }
    script
}

/// What podtrace writes to a terminal that is so many columns wide.
fn on_terminal(lab: &Lab, columns: u16, options: &str, environment: &[(&str, &str)]) -> Result<String> {
    let line = format!(
        "stty rows 30 cols {columns} && exec PODTRACE --cluster INVENTORY --from pod1 --to pod3 --probe icmp {options}"
    );
    let mut script = script(lab, &line);
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
    for columns in [120, 50] {
        let written = on_terminal(&lab, columns, "", &[])?;
        ensure!(written.contains(STATUS), "there is no status line at {columns} columns:\n{written}");
        let seen = seen(&written);
        ensure!(!seen.contains(STATUS) && !seen.contains('\r'), "something of it is left:\n{seen}");
        ensure!(seen.contains("2 paths: 2 delivered"), "the trace is garbled:\n{seen}");
        ensure!(seen.matches("✓ delivered in ").count() == 2, "the trace is garbled:\n{seen}");
    }
    Ok(())
}

fn beside_a_file() -> Result<()> {
    let lab = Lab::up("besidefile")?;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("trace");
    let written = on_terminal(&lab, 120, &format!(">{}", file.display()), &[("TERM", "xterm")])?;
    ensure!(written.contains(STATUS) && !seen(&written).contains(STATUS), "{written}");
    let file = fs::read_to_string(file)?;
    ensure!(file.contains("2 paths: 2 delivered") && !file.contains(STATUS), "{file}");
    Ok(())
}

/// Every recording: a line is wider than the terminal only if it is one word that cannot be broken. Every path has its mark
/// and its time of day at the beginning of a line.
fn lines_fit() -> Result<()> {
    let recordings = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings");
    let podtrace = binary::podtrace()?;
    for recording in recordings.read_dir()? {
        let recording = recording?.path();
        if recording.extension().is_none_or(|extension| extension != "pcapng") {
            continue;
        }
        for columns in [80_usize, 50] {
            let line = format!(
                "stty rows 30 cols {columns} && exec {} read {} --color never --all",
                podtrace.display(),
                recording.display()
            );
            let mut script = Command::new("script");
            script.args(["--quiet", "--return", "--command", &line, "/dev/null"]).env("TERM", "xterm");
            // A damaged recording ends with status 1.
            let text = run(&mut script, SHORT)?.stdout.replace("\r\n", "\n");
            let wide = |line: &&str| line.chars().count() > columns && line.trim().contains(' ');
            let too_wide: Vec<_> = text.lines().filter(wide).collect();
            ensure!(
                too_wide.is_empty(),
                "{} at {columns} columns:\n{}",
                recording.display(),
                too_wide.join("\n")
            );
            let paths = text.lines().filter(|line| {
                ["✓ #", "! ERROR #", "✗ DROPPED #", "✗ REFUSED #", "? VANISHED #", "… OPEN #"]
                    .iter()
                    .any(|mark| line.starts_with(mark))
            });
            let timed = paths.clone().filter(|line| line.matches(':').count() >= 2).count();
            let counted =
                text.lines().rev().find_map(|line| line.split_once(" path")?.0.replace(',', "").parse().ok());
            ensure!(
                Some(paths.count()) == counted && Some(timed) == counted,
                "{}: {counted:?} paths:\n{text}",
                recording.display()
            );
        }
    }
    Ok(())
}

fn nobody_looks() -> Result<()> {
    let lab = Lab::up("nostatus")?;
    for (why, columns, options, environment) in [
        ("-q", 120, "-q", ("TERM", "xterm")),
        ("a terminal that cannot be drawn on", 120, "", ("TERM", "dumb")),
        ("stdout is a pipe", 120, "| cat", ("TERM", "xterm")),
        ("stderr is no terminal", 120, "2>/dev/null", ("TERM", "xterm")),
        ("no room for it", 10, "", ("TERM", "xterm")),
    ] {
        let written = on_terminal(&lab, columns, options, &[environment])?;
        ensure!(!written.contains(STATUS), "there is a status line although {why}:\n{written}");
        ensure!(written.contains("2 paths: 2 delivered"), "{why}:\n{written}");
    }
    Ok(())
}
