//! `-o json`: one object a line, as `schema/podtrace.schema.json` describes it.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

use super::{Report, View};
use crate::totals::{Cause, Finished, Flow, Route, Totals};
use podtrace_escape::is_deceptive;
use podtrace_path::{Change, Path, Summary};
use podtrace_protocol::stats::Stats;

/// The output for programs.
#[derive(Debug)]
pub struct Json<W> {
    out: W,
    view: View,
}

impl<W: Write> Json<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Self { out, view: View::default() }
    }

    /// Shows this of the trace: only the verdicts matter.
    #[must_use]
    pub fn with(self, view: View) -> Self {
        Self { view, ..self }
    }

    fn line(&mut self, line: &Line<'_>) -> io::Result<()> {
        let mut text = Vec::new();
        line.serialize(&mut Serializer::with_formatter(&mut text, Visible))?;
        text.push(b'\n');
        self.out.write_all(&text)?;
        self.out.flush()
    }
}

impl<W: Write> Report for Json<W> {
    fn path(&mut self, path: &Path) -> io::Result<()> {
        if self.view.shows(path.verdict) { self.line(&Line::Path(path)) } else { Ok(()) }
    }

    fn change(&mut self, change: &Change) -> io::Result<()> {
        self.line(&Line::Change(change))
    }

    fn stats(&mut self, node: &str, stats: &Stats) -> io::Result<()> {
        self.line(&Line::Stats(NodeStats { node, stats }))
    }

    fn totals(&mut self, totals: &Finished) -> io::Result<()> {
        let Finished { causes, routes, flows, totals } = totals;
        flows.iter().try_for_each(|flow| self.line(&Line::Flow(flow)))?;
        routes.iter().try_for_each(|route| self.line(&Line::Route(route)))?;
        causes.iter().try_for_each(|cause| self.line(&Line::Cause(cause)))?;
        self.line(&Line::Totals(totals))
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        self.line(&Line::Summary(summary))
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Line<'a> {
    Path(&'a Path),
    Change(&'a Change),
    Flow(&'a Flow),
    Route(&'a Route),
    Cause(&'a Cause),
    Totals(&'a Totals),
    Stats(NodeStats<'a>),
    Summary(&'a Summary),
}

#[derive(Serialize)]
struct NodeStats<'a> {
    node: &'a str,
    #[serde(flatten)]
    stats: &'a Stats,
}

/// Compact JSON that is safe to look at: whatever [`podtrace_escape::escape`] would change is written as `\u….`, which
/// reads back as what it was.
pub(super) struct Visible;

impl Formatter for Visible {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(is_deceptive) {
            let (plain, found) = rest.split_at(at);
            CompactFormatter.write_string_fragment(writer, plain)?;
            let mut characters = found.chars();
            if let Some(c) = characters.next() {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
            rest = characters.as_str();
        }
        CompactFormatter.write_string_fragment(writer, rest)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use std::collections::BTreeMap;

    use super::*;
    use crate::output::samples;
    use crate::totals::{Collector, End};
    use podtrace_path::{ChangeKind, Evidence, Place, RouteTaken};

    const SCHEMA: &str = include_str!("../../../../schema/podtrace.schema.json");

    fn validator() -> jsonschema::Validator {
        let schema: Value = serde_json::from_str(SCHEMA).unwrap();
        jsonschema::draft202012::meta::validate(&schema).unwrap();
        jsonschema::validator_for(&schema).unwrap()
    }

    fn rendered(path: &Path) -> String {
        let mut out = Vec::new();
        Json::new(&mut out).path(path).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_kind_of_path_fits_the_schema() {
        let validator = validator();
        for (name, path) in samples::all() {
            let line = rendered(&path);
            assert!(line.starts_with(r#"{"type":"path","id":"#), "{line}");
            assert_eq!(line.matches('\n').count(), 1, "{name}");
            let value: Value = serde_json::from_str(&line).unwrap();
            let faults: Vec<_> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
            assert_eq!(faults, Vec::<String>::new(), "{name}");
        }
    }

    #[test]
    fn what_was_given_up_fits_the_schema() {
        let mut out = Vec::new();
        let shed = podtrace_path::Shed { paths: 1, events: 2, flows: 3 };
        Json::new(&mut out).summary(&Summary { shed, ..Summary::default() }).unwrap();
        let value: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["shed"], json!({"paths": 1, "events": 2, "flows": 3}));
        assert!(validator().is_valid(&value));
    }

    #[test]
    fn a_summary_fits_the_schema() {
        let mut out = Vec::new();
        let mut summary = Summary { complete: true, ..Summary::default() };
        summary.paths.delivered = 2;
        (summary.events.produced, summary.events.delivered) = (40, 40);
        Json::new(&mut out).summary(&summary).unwrap();
        let line = String::from_utf8(out).unwrap();
        assert_eq!(
            line,
            "{\"type\":\"summary\",\
             \"paths\":{\"delivered\":2,\"dropped\":0,\"vanished\":0,\"rejected\":0,\"open\":0},\
             \"events\":{\"produced\":40,\"delivered\":40,\"lost_ring\":0,\"lost_map\":0,\"missed_probes\":0,\
             \"unmatched\":0},\"complete\":true}\n"
        );
        assert!(validator().is_valid(&serde_json::from_str(&line).unwrap()));
    }

    #[test]
    fn totals_fit_the_schema() {
        let validator = validator();
        let mut collector = Collector::default();
        samples::all().iter().for_each(|(_, path)| collector.add(path));
        let mut out = Vec::new();
        Json::new(&mut out).totals(&collector.finished(End::default())).unwrap();
        let mut kinds = BTreeMap::<String, u32>::new();
        for line in String::from_utf8(out).unwrap().lines() {
            let value: Value = serde_json::from_str(line).unwrap();
            let faults: Vec<_> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
            assert_eq!(faults, Vec::<String>::new(), "{line}");
            assert!(!line.contains(is_deceptive), "{line}");
            *kinds.entry(value["type"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        assert_eq!(kinds.keys().collect::<Vec<_>>(), ["cause", "flow", "route", "totals"]);
        assert_eq!((kinds["totals"], kinds["cause"]), (1, 4));
    }

    #[test]
    fn a_change_is_what_is_promised() {
        let place = |ip: &str| Some(Place { ips: vec![ip.parse().unwrap()], node: Some("node1".to_owned()) });
        let change = Change {
            now: place("10.42.0.17"),
            was: place("10.42.0.10"),
            ..Change::of(1_800_000_000_123_456_789, "default/pod1", ChangeKind::Moved)
        };
        let mut out = Vec::new();
        Json::new(&mut out).change(&change).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"type\":\"change\",\"at\":\"2027-01-15T08:00:00.123456789Z\",\"about\":\"default/pod1\",\
             \"what\":\"moved\",\"now\":{\"ips\":[\"10.42.0.17\"],\"node\":\"node1\"},\
             \"was\":{\"ips\":[\"10.42.0.10\"],\"node\":\"node1\"},\"added\":[],\"removed\":[],\"detail\":null}\n"
        );
    }

    #[test]
    fn every_kind_of_change_fits_the_schema() {
        let validator = validator();
        for what in [
            ChangeKind::Moved,
            ChangeKind::Renewed,
            ChangeKind::Gone,
            ChangeKind::Back,
            ChangeKind::Endpoints,
            ChangeKind::Untraced,
            ChangeKind::Traced,
        ] {
            let bare = Change::of(0, "svc/default/web", what);
            let place = Some(Place { ips: vec!["fd00::1".parse().unwrap()], node: None });
            let full = Change {
                now: place.clone(),
                was: place,
                added: vec!["default/a".to_owned()],
                removed: vec!["default/b".to_owned()],
                detail: Some("d".to_owned()),
                ..bare.clone()
            };
            for change in [bare, full] {
                let mut out = Vec::new();
                Json::new(&mut out).change(&change).unwrap();
                let value: Value = serde_json::from_slice(&out).unwrap();
                let faults: Vec<_> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
                assert_eq!(faults, Vec::<String>::new(), "{what:?}");
            }
        }
    }

    #[test]
    fn a_path_is_what_is_promised() {
        let mut path = samples::cross_node_request();
        path.hops.truncate(1);
        // Of its own: the macro goes only so deep.
        let hop = json!({
            "index": 0, "node": "node1", "device": "veth1a2b", "point": "tc:ingress",
            "action": "pod-egress", "at_ns": 0, "clock_error_ns": 0, "evidence": "observed",
            "tuple": {"src": "10.42.0.10", "dst": "10.42.1.10", "proto": "icmp", "sport": null, "dport": null},
            "bytes": 84, "packets": 1, "merged": false, "outer": null, "nat": null, "conntrack": null,
            "route": null, "pod": "default/pod1", "drop": null, "neighbour": null, "queued_ns": null, "flooded": false,
            "events": [{"point": "tc:ingress", "device": "veth1a2b", "at_ns": 0, "detail": null}],
        });
        let expected = json!({
            "type": "path", "id": 1, "verdict": "delivered", "reason": null, "advice": null, "confidence": 1.0,
            "flow": {"id": 1, "direction": "request"},
            "from": {"pod": "default/pod1", "ip": "10.42.0.10", "port": null, "node": "node1", "service": null},
            "to": {"pod": "default/pod3", "ip": "10.42.1.10", "port": null, "node": "node2", "service": null},
            "translated": null, "proto": "icmp", "label": "echo request id 7 seq 1", "bytes": 84, "payload": 56,
            "started_at": "2026-11-22T05:00:00.000000000Z", "duration_ns": 88_800, "duration_error_ns": 3_000,
            "hops": [hop],
        });
        let value: Value = serde_json::from_str(&rendered(&path)).unwrap();
        assert_eq!(value, expected);
        assert!(validator().is_valid(&expected));
    }

    #[test]
    fn what_is_not_promised_is_refused() {
        let validator = validator();
        let right: Value = serde_json::from_str(&rendered(&samples::dropped())).unwrap();
        assert!(validator.is_valid(&right));
        for (what, pointer, wrong) in [
            ("an unknown verdict", "/verdict", json!("lost")),
            ("a verdict that is missing", "/verdict", Value::Null),
            ("a time that is text", "/duration_ns", json!("88 µs")),
            ("a time without nanoseconds", "/started_at", json!("2026-11-22T05:00:00Z")),
            ("a confidence above one", "/confidence", json!(1.5)),
            ("an address that is none", "/from/ip", json!("10.42.0.300")),
            ("a port beyond the last", "/to/port", json!(65_536)),
            ("an unknown action", "/hops/0/action", json!("teleport")),
            ("an unknown point", "/hops/0/point", json!("xdp")),
            ("a hop of no packets", "/hops/0/packets", json!(0)),
            ("no path or summary", "/type", json!("hop")),
            ("a field nobody knows", "/hops/0/extra", json!(1)),
            ("a field nobody knows", "/extra", json!(1)),
        ] {
            let mut value = right.clone();
            let (parent, field) = pointer.rsplit_once('/').unwrap();
            value.pointer_mut(parent).unwrap()[field] = wrong;
            assert!(!validator.is_valid(&value), "{what}");
        }
        for field in right.as_object().unwrap().keys() {
            let mut value = right.clone();
            value.as_object_mut().unwrap().remove(field);
            assert!(!validator.is_valid(&value), "without {field}");
        }
    }

    #[test]
    fn hostile_text_is_visible_and_reads_back() {
        let mut path = samples::hostile();
        path.hops[0].route = Some(RouteTaken {
            destination: Some("\u{e0041}".to_owned()),
            device: "\u{9b}31m".into(),
            gateway: None,
            evidence: Evidence::Inferred,
        });
        let line = rendered(&path);
        assert!(!line.trim_end().contains(is_deceptive), "{line}");
        let read: Path = serde_json::from_str(&line).unwrap();
        assert_eq!(read, path);
    }
}
