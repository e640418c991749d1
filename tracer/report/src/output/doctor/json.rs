//! The findings for programs.

use ipnet::IpNet;
use serde::Serialize;

use crate::doctor::{Examination, Issue, Kind, Severity};
use crate::output::json::Visible;

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Line<'a> {
    Finding(Finding<'a>),
    Area { area: &'a str, facts: &'a str, healthy: bool },
    Unseen { node: &'a str, text: &'a str },
    Doctor { nodes: usize, pods: usize, faults: usize, warnings: usize, notes: usize, complete: bool },
}

#[derive(Serialize)]
struct Finding<'a> {
    severity: Severity,
    kind: Kind,
    node: &'a str,
    pod: Option<&'a str>,
    device: Option<&'a str>,
    found: &'a str,
    expected: &'a str,
    effect: &'a str,
    fix: Option<&'a str>,
    lasting: Option<&'a str>,
    show: &'a [String],
    possible: &'a [String],
    about: &'a [IpNet],
    also: &'a [String],
    consequences: Vec<Finding<'a>>,
}

fn finding(issue: &Issue) -> Finding<'_> {
    Finding {
        severity: issue.severity,
        kind: issue.kind,
        node: &issue.node,
        pod: issue.pod.as_deref(),
        device: issue.device.as_deref(),
        found: &issue.found,
        expected: &issue.expected,
        effect: &issue.effect,
        fix: issue.fix.as_deref(),
        lasting: issue.lasting.as_deref(),
        show: &issue.show,
        possible: &issue.possible,
        about: &issue.about,
        also: &issue.also,
        consequences: issue.consequences.iter().map(finding).collect(),
    }
}

/// An object a line: findings, areas, what could not be looked at, and the numbers at the end.
pub(super) fn lines(found: &Examination) -> serde_json::Result<String> {
    let findings = found.issues.iter().map(|issue| Line::Finding(finding(issue)));
    let areas = found.areas.iter().map(|area| Line::Area {
        area: area.name,
        facts: &area.facts,
        healthy: area.healthy,
    });
    let unseen = found.unseen.iter().map(|(node, text)| Line::Unseen { node, text });
    let numbers = Line::Doctor {
        nodes: found.nodes,
        pods: found.pods,
        faults: found.count(Severity::Fault),
        warnings: found.count(Severity::Warning),
        notes: found.count(Severity::Note),
        complete: found.unseen.is_empty(),
    };
    let mut lines = Vec::new();
    for line in findings.chain(areas).chain(unseen).chain(std::iter::once(numbers)) {
        line.serialize(&mut serde_json::ser::Serializer::with_formatter(&mut lines, Visible))?;
        lines.push(b'\n');
    }
    String::from_utf8(lines).map_err(serde::ser::Error::custom)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::doctor::Area;

    #[test]
    fn every_line_is_as_the_schema_says() {
        let schema: Value =
            serde_json::from_str(include_str!("../../../../../schema/doctor.schema.json")).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let mut issue = Issue::at(Severity::Fault, Kind::LinkDown, "node1", Some("cni0"))
            .found("cni0 of node1 is down".to_owned(), "up")
            .follows("Nothing passes")
            .shown_by("ip link")
            .about(["10.42.0.0/24".parse::<IpNet>().unwrap(), "fd00::/64".parse().unwrap()]);
        issue.consequences = vec![issue.clone()];
        let area = Area { name: "pods", facts: "4\u{1b}".to_owned(), healthy: false };
        let found = Examination {
            issues: vec![issue],
            areas: vec![area],
            unseen: vec![("node2".to_owned(), "not looked at".to_owned())],
            nodes: 1,
            pods: 4,
        };
        let text = lines(&found).unwrap();
        assert!(text.lines().count() == 4 && !text.contains('\u{1b}'), "{text}");
        for line in text.lines() {
            let value: Value = serde_json::from_str(line).unwrap();
            let errors: Vec<_> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{errors:?} in {line}");
        }
    }
}
