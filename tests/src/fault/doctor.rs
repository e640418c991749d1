//! Breaks a lab, lets `podtrace doctor` look at it, and compares what it finds with the right answer.

use anyhow::{Context as _, Result, ensure};
use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

use super::data::Variant;
use super::names::{Names, address_of};
use super::run::{self, words};
use crate::command;
use crate::lab::Lab;

/// What a look at the standing network has to find.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finds {
    /// The kind of the finding, as `-o json` has it.
    pub kind: String,
    /// `fault`, `warning` or `note`.
    #[serde(default = "fault")]
    pub severity: String,
    /// Patterns of its sentence.
    #[serde(default)]
    pub found: Vec<String>,
    /// Whether the fixes that are printed, applied, let the client's pings be answered again.
    #[serde(default)]
    pub heals: bool,
    /// Whether other findings of that severity are right here, too: then this one need not be the first.
    #[serde(default)]
    pub besides: bool,
}

fn fault() -> String {
    "fault".to_owned()
}

impl Finds {
    /// With a variant's names.
    #[must_use]
    pub fn filled(mut self, names: &Names) -> Self {
        self.found.iter_mut().for_each(|pattern| *pattern = names.fill(pattern));
        self
    }
}

/// What `podtrace doctor` said.
#[derive(Clone, Debug)]
pub struct Looked {
    /// Its exit status.
    pub code: i32,
    /// Its findings, the first first.
    pub findings: Vec<Value>,
}

/// Looks at a lab.
///
/// # Errors
///
/// If it cannot be run, or prints no JSON.
pub fn look(lab: &Lab) -> Result<Looked> {
    let mut command = lab.podtrace();
    command.arg("doctor").arg("--cluster").arg(lab.inventory()).args(["-o", "json"]);
    let output = command::run(&mut command, command::SHORT)?;
    let lines = output
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("no JSON: {line}")));
    let lines: Vec<Value> = lines.collect::<Result<_>>()?;
    let last = lines.last().with_context(|| format!("it printed nothing: {output:?}"))?;
    ensure!(last["type"] == "doctor", "it ended early: {output:?}");
    let findings = lines.into_iter().filter(|line| line["type"] == "finding").collect();
    Ok(Looked { code: output.code(), findings })
}

/// Breaks a lab as the variant says, and judges what is found in it.
///
/// # Errors
///
/// If what has to be found is not found, or what is found is not true.
pub fn check(variant: &Variant, traffic: &str) -> Result<()> {
    let broken = run::break_lab(variant, traffic)?;
    let Looked { code, findings } = look(&broken.lab)?;
    let Some(wanted) = &variant.what.doctor else {
        return healthy(code, &findings);
    };
    let patterns = wanted.found.iter().map(|pattern| Regex::new(pattern)).collect::<Result<Vec<_>, _>>()?;
    let fits = |finding: &Value| {
        let sentence = finding["found"].as_str().unwrap_or_default();
        finding["kind"] == wanted.kind.as_str()
            && finding["severity"] == wanted.severity.as_str()
            && patterns.iter().all(|pattern| pattern.is_match(sentence))
    };
    let place = findings.iter().position(fits);
    let place =
        place.with_context(|| format!("{} is not found; found: {}", wanted.kind, listed(&findings)))?;
    ensure!(place == 0 || wanted.besides, "{} is not the first finding: {}", wanted.kind, listed(&findings));
    let expected = if findings.iter().any(|finding| finding["severity"] != "note") { 3 } else { 0 };
    ensure!(code == expected, "it ended with {code}: {}", listed(&findings));
    shown(&broken.lab, &findings)?;
    if wanted.heals {
        heal(variant, &broken.lab, &findings)?;
    }
    Ok(())
}

/// Nothing above a note.
fn healthy(code: i32, findings: &[Value]) -> Result<()> {
    ensure!(code == 0, "it ended with {code}: {}", listed(findings));
    Ok(())
}

/// The findings, a line each.
fn listed(findings: &[Value]) -> String {
    let line = |finding: &Value| {
        format!("\n  {} {} {}: {}", finding["severity"], finding["kind"], finding["node"], finding["found"])
    };
    findings.iter().map(line).collect()
}

/// Where a finding's commands are run.
fn place(finding: &Value) -> &str {
    let pod = finding["pod"].as_str().and_then(|pod| pod.rsplit('/').next());
    pod.or_else(|| finding["node"].as_str()).unwrap_or_default()
}

/// Runs every command that shows a finding.
fn shown(lab: &Lab, findings: &[Value]) -> Result<()> {
    for finding in findings {
        for show in finding["show"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            // Neither is in a lab.
            if show.starts_with("kubectl ") || show.starts_with("bpftool ") {
                continue;
            }
            let output =
                command::run(&mut lab.command(place(finding), words(show, "traffic")), command::SHORT)?;
            // That there is no route is what it shows.
            let shows = show.contains("route get") && output.stderr.contains("RTNETLINK answers");
            ensure!(
                output.code() == 0 || shows,
                "`{show}` on {} ended with {}: {}",
                place(finding),
                output.code(),
                output.stderr
            );
        }
    }
    Ok(())
}

/// Applies the fixes of what is wrong, and looks and pings again.
fn heal(variant: &Variant, lab: &Lab, findings: &[Value]) -> Result<()> {
    let wrong = findings.iter().filter(|finding| finding["severity"] != "note");
    // What follows from a finding comes after it.
    let all = wrong.flat_map(|finding| {
        std::iter::once(finding).chain(finding["consequences"].as_array().into_iter().flatten())
    });
    let fixes: Vec<_> = all.filter_map(|finding| Some((place(finding), finding["fix"].as_str()?))).collect();
    ensure!(!fixes.is_empty(), "there is no fix: {}", listed(findings));
    for (on, fix) in &fixes {
        let output = command::run(&mut lab.command(on, words(fix, "traffic")), command::SHORT)?;
        ensure!(output.code() == 0, "`{fix}` on {on} ended with {}: {}", output.code(), output.stderr);
    }
    let server = address_of(&variant.ways, variant.ways.server())?;
    // The first may be lost where a neighbour is looked up again.
    let ping = ["ping", "-n", "-c", "3", "-i", "0.3", "-W", "1", &server];
    let answered = command::run(&mut lab.command(variant.ways.client(), ping), command::SHORT)?;
    ensure!(answered.code() == 0, "{fixes:?} did not heal it: {}", answered.stdout);
    let again = look(lab)?;
    ensure!(again.code == 0, "it is still wrong after {fixes:?}: {}", listed(&again.findings));
    Ok(())
}
