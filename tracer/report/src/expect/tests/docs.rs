//! What `docs/expect.md` claims, checked on the recordings that it names.

use std::path::PathBuf;

use super::*;
use crate::output::Report;
use crate::recording::Files;
use crate::replay::{ReplayOptions, replay};

const DOCS: &str = include_str!("../../../../../docs/expect.md");

/// Judges paths without any output.
struct Silent<'a>(&'a mut Judge);

impl Report for Silent<'_> {
    fn path(&mut self, path: &Path) -> std::io::Result<()> {
        self.0.path(path);
        Ok(())
    }

    fn summary(&mut self, _: &Summary) -> std::io::Result<()> {
        Ok(())
    }
}

fn judge_recording(name: &str, expression: &str) -> Judgement {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/recordings")
        .join(name)
        .with_extension("pcapng");
    let mut judge = Judge::new(vec![expression.parse().unwrap_or_else(|error| panic!("{error}"))]);
    let recording = Files(vec![path]).open().unwrap();
    let replayed = replay(recording, ReplayOptions::default(), &mut Silent(&mut judge)).unwrap();
    assert_eq!(replayed.damage, None);
    judge.summary(&replayed.outcome.summary).remove(0)
}

#[test]
fn the_examples_hold_for_the_recordings_they_name() {
    let mut recording = None;
    let mut judged = 0;
    for line in DOCS.lines() {
        match (line.strip_prefix("```"), recording) {
            (Some(fence), _) => recording = fence.strip_prefix("expect "),
            (None, Some(name)) => {
                let judgement = judge_recording(name, line);
                assert!(judgement.held, "{name}: {}", judgement.lines().join("\n"));
                judged += 1;
            }
            (None, None) => {}
        }
    }
    assert_eq!(judged, 16);
}

#[test]
fn the_tables_speak_the_language() {
    let rows = DOCS.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let expressions: Vec<_> = rows.map(|(expression, _)| expression).collect();
    assert_eq!(expressions.len(), 29);
    for expression in &expressions {
        expression.parse::<Expectation>().unwrap_or_else(|error| panic!("{error}"));
    }
    // No word of the language is left out.
    let known = vocabulary::OF_A_PATH.into_iter().chain(vocabulary::OF_THE_TRACE);
    for word in known {
        assert!(DOCS.contains(&format!("`{word}")), "{word}");
    }
}

#[test]
fn the_failure_is_shown_as_it_is() {
    let (_, rest) = DOCS.split_once("\n$ podtrace read tests/recordings/").unwrap();
    let (name, rest) = rest.split_once(".pcapng -q --expect '").unwrap();
    let (expression, rest) = rest.split_once("' > /dev/null\n").unwrap();
    let (shown, _) = rest.split_once("\n$ echo $?").unwrap();
    assert_eq!(shown, judge_recording(name, expression).lines().join("\n"));
}
