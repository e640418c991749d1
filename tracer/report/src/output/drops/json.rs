//! What was dropped, for programs.

use serde::Serialize;

use super::Dropped;
use crate::output::json::Visible;
use crate::totals::Loss;
use podtrace_path::{EventCounts, HarmlessDrop, VerdictCounts};

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Line<'a> {
    Loss(&'a Loss),
    Harmless(&'a HarmlessDrop),
    Drops(Numbers<'a>),
}

#[derive(Serialize)]
struct Numbers<'a> {
    nodes: &'a [String],
    duration_ms: Option<u64>,
    /// Packets by verdict, and the causes of those that failed.
    paths: VerdictCounts,
    failed: u64,
    causes: usize,
    unlisted: u64,
    drops: Counts,
    events: EventCounts,
    complete: bool,
    missing: Option<String>,
}

/// What became of the drops that the kernels reported.
#[derive(Serialize)]
struct Counts {
    seen: u64,
    fatal: u64,
    harmless: u64,
    unexplained: u64,
}

/// An object a line: losses, harmless drops by kind, and the numbers at the end.
pub(super) fn lines(dropped: &Dropped<'_>) -> serde_json::Result<String> {
    let Dropped { losses, paths: _, failed, unlisted, summary, damage, watched } = dropped;
    let fates = &summary.drops;
    let missing = super::text::missing(summary, *damage);
    let numbers = Line::Drops(Numbers {
        nodes: &watched.nodes,
        duration_ms: watched.over.map(|over| u64::try_from(over.as_millis()).unwrap_or(u64::MAX)),
        paths: summary.paths,
        failed: *failed,
        causes: losses.len(),
        unlisted: *unlisted,
        drops: Counts {
            seen: fates.seen,
            fatal: fates.fatal,
            harmless: fates.harmless(),
            unexplained: fates.unexplained,
        },
        events: summary.events,
        complete: missing.is_none(),
        missing,
    });
    let harmless = fates.harmless.iter().map(Line::Harmless);
    let mut text = Vec::new();
    for line in losses.iter().map(Line::Loss).chain(harmless).chain(std::iter::once(numbers)) {
        line.serialize(&mut serde_json::ser::Serializer::with_formatter(&mut text, Visible))?;
        text.push(b'\n');
    }
    String::from_utf8(text).map_err(serde::ser::Error::custom)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::Watched;
    use super::*;
    use crate::output::samples;
    use crate::totals::Losses;
    use podtrace_path::{Drop, Summary};

    fn valid(schema: &str, line: &Value) -> Vec<String> {
        let schema: Value = serde_json::from_str(schema).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        validator.iter_errors(line).map(|error| error.to_string()).collect()
    }

    #[test]
    fn every_line_is_as_the_schema_says() {
        let mut losses = Losses::default();
        for (_, path) in samples::all() {
            losses.add(&path);
        }
        let mut hostile = samples::dropped();
        hostile.hops.iter_mut().filter_map(|hop| hop.drop.as_mut()).for_each(|drop| {
            *drop = Drop { advice: Some("\u{1b}[2J\u{202e}".to_owned()), ..Drop::default() };
        });
        losses.add(&hostile);
        let mut summary = Summary::default();
        summary.drops.harmless = vec![HarmlessDrop {
            what: "a copy".to_owned(),
            reason: Some("OTHERHOST".to_owned()),
            location: None,
            count: 3,
        }];
        let watched = Watched { nodes: vec!["node1".to_owned()], over: None };
        let text = lines(&Dropped::of(&losses, &summary, Some("cut off"), &watched)).unwrap();
        assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'), "{text}");
        assert!(text.lines().count() > 4, "{text}");
        for line in text.lines() {
            let mut value: Value = serde_json::from_str(line).unwrap();
            let schema = include_str!("../../../../../schema/drops.schema.json");
            assert_eq!(valid(schema, &value), Vec::<String>::new(), "{line}");
            if let Some(path) = value.get_mut("path") {
                path["type"] = "path".into();
                let schema = include_str!("../../../../../schema/podtrace.schema.json");
                assert_eq!(valid(schema, path), Vec::<String>::new(), "{line}");
            }
        }
        let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(last["complete"], false);
        assert!(last["missing"].as_str().unwrap().contains("cut off"), "{last}");
    }
}
