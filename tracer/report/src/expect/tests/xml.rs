//! Judgements as XML, read back.

use std::time::Duration;

use quick_xml::events::Event;
use quick_xml::{Reader, XmlVersion};

use super::*;

/// What a reader of XML makes of a document: names with their attributes, and text.
fn read(document: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(document).unwrap();
    let allowed = |c: char| matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    assert!(text.chars().all(allowed), "{text:?}");
    let mut reader = Reader::from_str(text);
    reader.config_mut().check_end_names = true;
    let mut seen = Vec::new();
    let mut depth = 0;
    loop {
        match reader.read_event().unwrap() {
            Event::Eof => break,
            event @ (Event::Start(_) | Event::Empty(_)) => {
                depth += i32::from(matches!(event, Event::Start(_)));
                let (Event::Start(element) | Event::Empty(element)) = event else { unreachable!() };
                let mut shown = element.name().as_ref().to_owned();
                for attribute in element.attributes() {
                    let attribute = attribute.unwrap();
                    shown.push_str(&format!(
                        " {}={}",
                        attribute.key.as_ref(),
                        attribute.normalized_value(XmlVersion::Explicit1_0).unwrap()
                    ));
                }
                seen.push(shown);
            }
            Event::End(_) => depth -= 1,
            Event::Text(text) => seen.push(text.trim().to_owned()),
            Event::GeneralRef(name) => seen.push(format!("&{};", &*name)),
            _ => {}
        }
    }
    assert_eq!(depth, 0);
    seen.retain(|text| !text.is_empty());
    seen
}

fn document(expressions: &[&str], paths: &[Path], summary: &Summary) -> Vec<u8> {
    let mut judge = Judge::new(expressions.iter().map(|text| text.parse().unwrap()).collect());
    for path in paths {
        judge.path(path);
    }
    let judgements = judge.summary(summary);
    let time = Duration::from_millis(1_250);
    Suite { title: "default/pod1 → \u{ffff}<any>", summary, judgements: &judgements, time }
        .document()
        .unwrap()
}

#[test]
fn one_test_case_an_expectation() {
    let mut summary = complete();
    summary.paths.delivered = 2;
    let seen = read(&document(&["delivered", "any(dropped)"], &ping(), &summary));
    assert_eq!(seen[0], "testsuites name=podtrace tests=2 failures=1 errors=0 skipped=0 time=1.250");
    assert_eq!(
        seen[1],
        "testsuite name=default/pod1 → <any> tests=2 failures=1 errors=0 skipped=0 time=1.250"
    );
    assert!(seen.contains(&"property name=complete value=true".to_owned()));
    assert!(seen.contains(&"property name=paths.delivered value=2".to_owned()));
    assert!(seen.contains(&"testcase name=delivered classname=podtrace.expect time=1.250".to_owned()));
    let failure = seen.iter().position(|text| text.starts_with("failure")).unwrap();
    assert_eq!(seen[failure - 1], "testcase name=any(dropped) classname=podtrace.expect time=1.250");
    assert_eq!(
        seen[failure],
        "failure message=dropped: holds for none of 2 paths; must hold for at least one path type=expectation"
    );
    let text = seen[failure + 1..].join("");
    // The nearest path stands there whole.
    assert!(
        text.contains("expectation failed: any(dropped)") && text.contains("✓ delivered in 88.8"),
        "{text}"
    );
}

#[test]
fn nothing_hostile_gets_through() {
    let expressions = ["from == \"<&\u{1}]]>'\x1b\"", "delivered", "none(via veth*)"];
    let seen = read(&document(&expressions[1..], &[samples::hostile()], &complete())).join("\n");
    assert!(!seen.contains('\x1b') && seen.contains("\\u{1b}"), "{seen}");
    let error = expressions[0].parse::<Expectation>().unwrap_err().to_string();
    assert!(!error.contains('\x1b'), "{error}");
    let via = "via \"<&\u{1}]]>'\x1b\"";
    let seen = read(&document(&[via], &[samples::hostile()], &complete()));
    assert!(seen.iter().any(|text| text.contains("name=via \"<&\\u{1}]]>'\\u{1b}\"")), "{seen:?}");
}

#[test]
fn a_trace_that_never_ended_is_an_error() {
    let seen = read(&unfinished("a", ["delivered", "loss < 1%"].into_iter()).unwrap());
    assert_eq!(seen[0], "testsuites name=podtrace tests=2 failures=0 errors=2 skipped=0");
    assert!(seen.contains(&"testcase name=loss < 1% classname=podtrace.expect".to_owned()));
    assert!(seen.iter().any(|text| text.starts_with("error message=the trace did not finish")));
}
