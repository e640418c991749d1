//! Compares what podtrace said with the right answer.

use anyhow::{Context as _, Result, ensure};
use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::claims::Claim;
use super::data::{Expected, Place, Variant};
use super::run::Said;

/// What a run was worth.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// The right verdict at the right node and place.
    pub localised: bool,
    /// Every pattern of the cause was found.
    pub explained: bool,
    /// Sentences that are not true, each with the name of its claim.
    #[serde(rename = "false")]
    pub falsehoods: Vec<String>,
    /// What it said instead, in short.
    pub said: String,
}

impl Judgement {
    /// Whether nothing is amiss.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.localised && self.explained && self.falsehoods.is_empty()
    }
}

/// A pattern of the data: anywhere in the output, over lines.
///
/// # Errors
///
/// If it is none.
pub fn pattern(text: &str) -> Result<Regex> {
    Regex::new(&format!("(?m){text}")).with_context(|| format!("`{text}` is no pattern"))
}

/// Judges a run.
///
/// # Errors
///
/// If the data holds what is no pattern or no claim.
pub fn judge(variant: &Variant, said: &Said, claims: &[Claim]) -> Result<Judgement> {
    let expected = &variant.what.expect;
    let mut falsehoods = falsehoods(expected, said, claims)?;
    falsehoods.extend(said.unheld.iter().cloned());
    if variant.what.healthy {
        falsehoods.extend(alarms(said, variant.what.overload));
        let fine = falsehoods.is_empty();
        return Ok(Judgement { localised: fine, explained: fine, falsehoods, said: outline(said, None) });
    }
    let lost: Vec<&Value> = said.paths.iter().filter(|path| is_from(path, &variant.ways.src)).collect();
    let verdicts = expected.verdict.as_deref().unwrap_or_default();
    let places = expected.place.as_deref().unwrap_or_default();
    ensure!(
        !verdicts.is_empty() && !places.is_empty(),
        "{}: a verdict and a place are expected",
        variant.name
    );
    let mut localised = false;
    for place in places {
        localised |= place.found(&lost, verdicts, said)?;
    }
    for path in &lost {
        let verdict = path["verdict"].as_str().unwrap_or_default();
        if verdict == "delivered" && !verdicts.iter().any(|right| right == "delivered") {
            falsehoods.push(format!("delivered: #{} {}", path["id"], label(path)));
        }
        if let Some(inside) = inside(path) {
            let right =
                places.iter().any(|place| place.pod.as_deref().is_some_and(|pod| is_pod(inside, pod)));
            if !right && !is_passing(path) {
                falsehoods.push(format!("inside: #{} inside {inside}", path["id"]));
            }
        }
    }
    let mut explained = true;
    for cause in expected.cause.iter().flatten() {
        explained &= pattern(cause)?.is_match(&said.text);
    }
    falsehoods.dedup();
    Ok(Judgement { localised, explained, falsehoods, said: outline(said, lost.first().copied()) })
}

fn falsehoods(expected: &Expected, said: &Said, claims: &[Claim]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let true_claims = expected.true_claims.as_deref().unwrap_or_default();
    for name in true_claims {
        let known = claims.iter().any(|claim| claim.name == *name);
        ensure!(known, "`{name}` is none of claims.yaml");
    }
    for claim in claims.iter().filter(|claim| !true_claims.contains(&claim.name)) {
        found.extend(sentence(&claim.pattern, &said.text).map(|text| format!("{}: {text}", claim.name)));
    }
    for never in expected.never.iter().flatten() {
        found.extend(sentence(&pattern(never)?, &said.text).map(|text| format!("never: {text}")));
    }
    Ok(found)
}

/// What must not be said of healthy traffic, besides claims.
fn alarms(said: &Said, overload: bool) -> Vec<String> {
    let mut alarms: Vec<String> = said
        .paths
        .iter()
        .filter(|path| path["verdict"] != "delivered")
        .map(|path| {
            format!(
                "alarm: {} {}: {}",
                path["verdict"].as_str().unwrap_or_default(),
                label(path),
                reason(path)
            )
        })
        .collect();
    alarms.extend(
        said.text.lines().filter(|line| line.contains('↳')).map(|line| format!("advice: {}", line.trim())),
    );
    let events = &said.summary["events"];
    let count = |name: &str| events[name].as_u64().unwrap_or_default();
    let is_overloaded = overload
        && count("lost_ring") + count("missed_probes") > 0
        && count("lost_map") + count("unmatched") == 0;
    if said.summary["complete"] != true && !is_overloaded {
        alarms.push("incomplete".to_owned());
    }
    if said.paths.is_empty() {
        alarms.push("no path".to_owned());
    }
    alarms.dedup();
    alarms
}

/// The line in which a pattern is found first.
fn sentence(pattern: &Regex, text: &str) -> Option<String> {
    let found = pattern.find(text)?;
    let start = text[..found.start()].rfind('\n').map_or(0, |at| at + 1);
    let end = text[found.end()..].find('\n').map_or(text.len(), |at| found.end() + at);
    Some(text[start..end].trim().to_owned())
}

impl Place {
    fn found(&self, lost: &[&Value], verdicts: &[String], said: &Said) -> Result<bool> {
        if let Some(text) = &self.text
            && !pattern(text)?.is_match(&said.text)
        {
            return Ok(false);
        }
        if self.node.is_none() && self.pod.is_none() && self.device.is_none() {
            return Ok(self.text.is_some());
        }
        for path in lost {
            let verdict = path["verdict"].as_str().unwrap_or_default();
            if verdicts.iter().any(|right| right == verdict) && self.is_at(path)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_at(&self, path: &Value) -> Result<bool> {
        let Some(hop) = last_hop(path) else { return Ok(false) };
        if self.node.as_deref().is_some_and(|node| hop["node"] != node) {
            return Ok(false);
        }
        let inside = inside(path);
        match (&self.pod, inside) {
            (Some(pod), Some(inside)) if !is_pod(inside, pod) => return Ok(false),
            (Some(_), None) | (None, Some(_)) => return Ok(false),
            _ => {}
        }
        let Some(device) = &self.device else { return Ok(true) };
        let device =
            Regex::new(&format!("^({device})$")).with_context(|| format!("`{device}` is no pattern"))?;
        Ok(device.is_match(hop["device"].as_str().unwrap_or("-")))
    }
}

fn is_pod(full: &str, name: &str) -> bool {
    full.rsplit('/').next() == Some(name)
}

/// Whether it is a packet of this pod's that is no complaint about another.
fn is_from(path: &Value, pod: &str) -> bool {
    let is = |end: &Value| end["pod"].as_str().is_some_and(|name| is_pod(name, pod));
    let own = is(&path["from"]) || is(&path["translated"]["from"]);
    let label = label(path);
    own && !["unreachable", "exceeded", "RST"].iter().any(|word| label.contains(word))
}

fn label(path: &Value) -> String {
    format!("{} {}", path["proto"].as_str().unwrap_or_default(), path["label"].as_str().unwrap_or_default())
}

fn reason(path: &Value) -> &str {
    path["reason"].as_str().unwrap_or_default()
}

/// The hop that ended it: the last drop, else the last that was seen.
fn last_hop(path: &Value) -> Option<&Value> {
    let hops = path["hops"].as_array()?;
    let drop = || hops.iter().rev().find(|hop| hop["action"] == "drop");
    let seen = || hops.iter().rev().find(|hop| hop["evidence"] == "observed");
    if matches!(path["verdict"].as_str(), Some("dropped" | "rejected")) {
        drop().or_else(seen)
    } else {
        seen()
    }
}

/// The pod inside of which it is said to have been dropped.
fn inside(path: &Value) -> Option<&str> {
    let hop = last_hop(path).filter(|hop| hop["action"] == "drop")?;
    hop["pod"].as_str()
}

/// Whether its drops did not end it.
fn is_passing(path: &Value) -> bool {
    path["verdict"] == "delivered"
}

/// What was said, in a line: the verdict's and the advice's beginning, or that there was no path.
fn outline(said: &Said, path: Option<&Value>) -> String {
    let Some(path) = path else {
        let summary = said.text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        return format!("no path of it (exit {}): {}", said.code, cut(summary.trim(), 110));
    };
    let place = last_hop(path).map_or_else(String::new, |hop| {
        let at = hop["device"].as_str().unwrap_or("no device");
        let inside = inside(path).map(|pod| format!(" inside {pod}")).unwrap_or_default();
        format!(" at {} {at}{inside}", hop["node"].as_str().unwrap_or_default())
    });
    let verdict = path["verdict"].as_str().unwrap_or_default();
    let advice = said.text.lines().find_map(|line| line.trim().strip_prefix("↳ ")).unwrap_or_default();
    let reason = reason(path);
    let mut outline = format!("{verdict}{place}");
    for part in [reason, advice].iter().filter(|part| !part.is_empty()) {
        outline = format!("{outline}; {}", cut(part, 110));
    }
    outline
}

fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        text.to_owned()
    } else {
        text.chars().take(most).chain(['…']).collect()
    }
}
