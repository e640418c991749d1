//! Compares the text outputs and the page's data for every sample with the files in `snapshots/`. After an intended change,
//! `PODTRACE_BLESS=1 cargo test -p podtrace-report snapshot` updates them; review the diff before you commit it.
//!
//! The snapshots are plain files without a header, so that they can be read (and piped to a terminal) as they are.

use std::path::PathBuf;

use super::{Html, Paths, Report, Text, View, samples};
use crate::totals::{Collector, End};
use podtrace_path::{Summary, Verdict};

pub(super) fn compare(name: &str, text: &str) {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/output/snapshots").join(name);
    if std::env::var_os("PODTRACE_BLESS").is_some() {
        std::fs::write(&file, text).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(expected == text, "{} differs; actual output:\n{text}", file.display());
}

pub(super) fn plain(coloured: &str) -> String {
    anstream::adapter::strip_str(coloured).to_string()
}

fn render(make: impl FnOnce(&mut Vec<u8>) -> Box<dyn Report + '_>) -> String {
    let mut out = Vec::new();
    let mut report = make(&mut out);
    let mut summary = Summary { complete: true, ..Summary::default() };
    let mut collector = Collector::default();
    for (_, path) in samples::all() {
        report.path(&path).unwrap();
        collector.add(&path);
        summary.events.produced += u64::try_from(path.hops.len()).unwrap();
    }
    summary.events.delivered = summary.events.produced;
    summary.paths = collector.paths();
    report.totals(&collector.finished(End::default())).unwrap();
    report.summary(&summary).unwrap();
    drop(report);
    String::from_utf8(out).unwrap()
}

#[test]
fn text() {
    let coloured = render(|out| Box::new(Text::new(out)));
    compare("text.txt", &plain(&coloured));
    // Escape characters become symbols, so that printing the file does not change the terminal.
    compare("text.colour.txt", &coloured.replace('\x1b', "␛"));
}

#[test]
fn narrow() {
    let view = View { width: 80, ..View::default() };
    compare("text-80.txt", &plain(&render(|out| Box::new(Text::new(out).with(view)))));
}

#[test]
fn summary() {
    let view = View { width: 80, paths: Paths::None, ..View::default() };
    let coloured = render(|out| Box::new(Text::new(out).with(view)));
    compare("summary.txt", &plain(&coloured));
    compare("summary.colour.txt", &coloured.replace('\x1b', "␛"));
}

#[test]
fn flows() {
    let failed = vec![Verdict::Dropped, Verdict::Vanished, Verdict::Rejected];
    for (name, verdicts) in [("flows.txt", Vec::new()), ("flows-failed.txt", failed)] {
        let view = View { width: 80, paths: Paths::None, flows: true, verdicts };
        compare(name, &plain(&render(|out| Box::new(Text::new(out).with(view)))));
    }
}

#[test]
fn wide() {
    let coloured = render(|out| Box::new(Text::wide(out)));
    compare("wide.txt", &plain(&coloured));
    compare("wide.colour.txt", &coloured.replace('\x1b', "␛"));
}

/// The JSON data of the page, with one line per hop.
#[test]
fn page() {
    let page = render(|out| Box::new(Html::begin(out, "samples").unwrap()));
    let data =
        page.lines().filter_map(|line| line.strip_prefix("<script type=\"application/json\" class=\""));
    let data: Vec<_> = data.map(|element| element.replace("{\"node\":", "\n  {\"node\":")).collect();
    compare("page.txt", &format!("{}\n", data[1..].join("\n")));
}

#[test]
fn nothing_hostile_gets_through() {
    for text in [render(|out| Box::new(Text::new(out))), render(|out| Box::new(Text::wide(out)))] {
        let plain = plain(&text);
        assert_eq!(plain.chars().find(|c| *c != '\n' && podtrace_escape::is_deceptive(*c)), None, "{plain}");
        assert!(plain.lines().all(|line| line.trim_end() == line), "{plain}");
    }
}
