//! `podtrace top` on a pseudo-terminal: what it shows, what keys do, and that the terminal is given back however it ends.

use std::io::Write as _;
use std::process::ChildStdin;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use podtrace_tests::attached;
use podtrace_tests::command::{Running, SHORT, run};
use podtrace_tests::lab::Lab;
use podtrace_tests::suite::trial;

use crate::terminal::script;

/// Time limit for what a busy machine does slowly.
const LONG: Duration = Duration::from_secs(45);

/// The terminal's other screen, and back.
const TAKEN: &str = "\u{1b}[?1049h";
const GIVEN_BACK: &str = "\u{1b}[?1049l";

pub(crate) fn trials() -> Vec<Trial> {
    let (tools, none): (&[&str], &[&str]) = (&["script", "stty"], &[]);
    vec![
        trial("top-shows-routes-flows-and-causes", &["script", "stty", "ip"], shows),
        trial("top-gives-the-terminal-back-at-ctrl-c", tools, || ends_by("top-key", None)),
        trial("top-gives-the-terminal-back-at-sigterm", tools, || ends_by("top-term", Some(Signal::SIGTERM))),
        trial("top-gives-the-terminal-back-at-sighup", tools, || ends_by("top-hup", Some(Signal::SIGHUP))),
        trial("top-gives-the-terminal-back-if-it-cannot-start", tools, cannot_start),
        trial("top-needs-a-terminal", none, no_terminal),
    ]
}

/// A live view on a terminal of 80 columns and 24 lines; when it is over, the terminal's settings are printed.
fn start(lab: &Lab, options: &str) -> Result<(Running, ChildStdin)> {
    let line =
        format!("stty rows 24 cols 80; PODTRACE top --cluster INVENTORY {options}; echo status $?; stty -a");
    Running::reading(&mut script(lab, &line))
}

/// Waits for what is nowhere else on the screen: only what changes is drawn, so words that are like what was there have gaps.
fn see(running: &mut Running, text: &str) -> Result<()> {
    running.wait_until(&format!("{text:?} is on the screen"), LONG, |stdout| Ok(stdout.contains(text)))
}

/// What was written after the view.
fn after(stdout: &str) -> Result<String> {
    let (_, after) = stdout.rsplit_once(GIVEN_BACK).context("the terminal was not given back")?;
    ensure!(!after.contains(TAKEN), "it was taken again: {after}");
    // Canonical mode and echo are on again.
    ensure!(after.contains(" icanon") && after.contains(" echo "), "the settings are other ones: {after}");
    ensure!(after.contains("\u{1b}[?25h"), "the cursor is hidden: {after}");
    Ok(after.replace("\r\n", "\n"))
}

fn shows() -> Result<()> {
    let lab = Lab::up("top")?;
    let (mut running, mut keys) = start(&lab, "--from pod1 --to pod3 --probe icmp")?;
    // It sends without end.
    see(&mut running, "whole")?;
    see(&mut running, "encapsulated")?;
    keys.write_all(b"2")?;
    see(&mut running, "✓")?;
    lab.exec("node1", ["ip", "route", "replace", "blackhole", "10.42.1.10/32"])?;
    keys.write_all(b"3")?;
    see(&mut running, "↳")?;
    keys.write_all(b"\r")?;
    see(&mut running, "Esc")?;
    keys.write_all(b"q")?;
    let output = running.finish(LONG)?;
    let after = after(&output.stdout)?;
    ensure!(after.contains("status 0\n") && after.contains(" echo requests, "), "{after}");
    ensure!(attached::tcx(&lab)?.is_empty(), "something is left attached");
    Ok(())
}

/// The process of the view.
fn process(lab: &Lab) -> Result<i32> {
    let inventory = lab.inventory();
    let wanted = inventory.to_string_lossy();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let words = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words);
        let words: Vec<_> = words.split('\0').collect();
        if words.get(1) == Some(&"top") && words.contains(&&*wanted) {
            return Ok(id);
        }
    }
    anyhow::bail!("no process is the view")
}

fn ends_by(name: &str, signal: Option<Signal>) -> Result<()> {
    let lab = Lab::up(name)?;
    let (mut running, mut keys) = start(&lab, "--from pod1 --to pod3 --probe icmp")?;
    see(&mut running, "whole")?;
    match signal {
        // In raw mode it is a key.
        None => keys.write_all(b"\x03")?,
        Some(signal) => kill(Pid::from_raw(process(&lab)?), signal)?,
    }
    let output = running.finish(LONG)?;
    let after = after(&output.stdout)?;
    ensure!(after.contains("status 0\n") && after.contains(" delivered"), "{after}");
    Ok(())
}

fn cannot_start() -> Result<()> {
    let lab = Lab::up("top-fails")?;
    let (running, _keys) = start(&lab, "--from pod1 --to pod3 --write /nowhere/file")?;
    let output = running.finish(LONG)?;
    let text = output.stdout.replace("\r\n", "\n");
    ensure!(
        text.contains("status 1\n") && text.contains("/nowhere/file") && text.contains(" icanon"),
        "{text}"
    );
    Ok(())
}

fn no_terminal() -> Result<()> {
    let lab = Lab::up("top-none")?;
    let mut command = lab.podtrace();
    command.arg("top").arg("--cluster").arg(lab.inventory()).args(["--from", "pod1", "--to", "pod3"]);
    let output = run(&mut command, SHORT)?;
    ensure!(output.code() == 2 && output.stderr.contains("podtrace top needs a terminal"), "{output:?}");
    ensure!(!output.stdout.contains('\u{1b}'), "{output:?}");
    Ok(())
}
