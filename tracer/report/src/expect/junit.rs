//! Judgements as JUnit XML, which CI systems read: one test suite, one test case an expectation.

use std::io;
use std::time::Duration;

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

use super::judgement::Judgement;
use podtrace_escape::escape;
use podtrace_path::{Sample, Summary, VerdictCounts};

/// What test cases are filed under.
const CLASS: &str = "podtrace.expect";

/// A trace and how it was judged.
#[derive(Clone, Copy, Debug)]
pub struct Suite<'a> {
    /// What was traced.
    pub title: &'a str,
    /// What it amounts to.
    pub summary: &'a Summary,
    /// One for each expectation.
    pub judgements: &'a [Judgement],
    /// How long it took.
    pub time: Duration,
}

impl Suite<'_> {
    /// The document.
    ///
    /// # Errors
    /// None but what the XML writer may have.
    pub fn document(&self) -> io::Result<Vec<u8>> {
        let failures = self.judgements.iter().filter(|judgement| !judgement.held).count();
        let cases = self.judgements.iter().map(|judgement| Case {
            expression: &judgement.expression,
            fault: (!judgement.held).then(|| Fault {
                element: "failure",
                message: judgement.cause(),
                text: text(judgement),
            }),
        });
        let head = Head { title: self.title, time: Some(self.time), failures, errors: 0 };
        document(&head, &properties(self.summary), &cases.collect::<Vec<_>>())
    }
}

/// The content of the file until the trace has finished: every test case is an error.
///
/// # Errors
/// None but what the XML writer may have.
pub fn unfinished<'a>(title: &str, expressions: impl Iterator<Item = &'a str>) -> io::Result<Vec<u8>> {
    let cases: Vec<_> = expressions
        .map(|expression| Case {
            expression,
            fault: Some(Fault {
                element: "error",
                message: "the trace did not finish".to_owned(),
                text: "podtrace wrote this before tracing started; a finished trace replaces it.".to_owned(),
            }),
        })
        .collect();
    let head = Head { title, time: None, failures: 0, errors: cases.len() };
    document(&head, &[], &cases)
}

struct Head<'a> {
    title: &'a str,
    time: Option<Duration>,
    failures: usize,
    errors: usize,
}

struct Case<'a> {
    expression: &'a str,
    fault: Option<Fault>,
}

struct Fault {
    element: &'static str,
    message: String,
    text: String,
}

/// The whole failure: what stderr shows, and the paths that it speaks of.
fn text(judgement: &Judgement) -> String {
    let mut text = judgement.lines().join("\n");
    for path in judgement.paths() {
        text.push_str("\n\n");
        text.push_str(path.trim_end());
    }
    text.push('\n');
    text
}

fn properties(summary: &Summary) -> Vec<(&'static str, String)> {
    let Summary { paths, events, complete, unwatched, shed, sample, drops: _ } = summary;
    let VerdictCounts { delivered, dropped, vanished, rejected, open } = *paths;
    let mut properties = vec![
        ("complete", complete.to_string()),
        ("paths.delivered", delivered.to_string()),
        ("paths.dropped", dropped.to_string()),
        ("paths.vanished", vanished.to_string()),
        ("paths.rejected", rejected.to_string()),
        ("paths.open", open.to_string()),
        ("events.produced", events.produced.to_string()),
        ("events.delivered", events.delivered.to_string()),
        ("unwatched", unwatched.len().to_string()),
        ("shed.paths", shed.paths.to_string()),
    ];
    if let Some(Sample { one_in, unsampled_events }) = sample {
        properties.push(("sample.one_in", one_in.to_string()));
        properties.push(("sample.unsampled_events", unsampled_events.to_string()));
    }
    properties
}

fn document(head: &Head<'_>, properties: &[(&str, String)], cases: &[Case<'_>]) -> io::Result<Vec<u8>> {
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let title = clean(head.title);
    let seconds = head.time.map(|time| format!("{:.3}", time.as_secs_f64()));
    let (tests, failures, errors) =
        (cases.len().to_string(), head.failures.to_string(), head.errors.to_string());
    let mut counts = vec![
        ("tests", tests.as_str()),
        ("failures", failures.as_str()),
        ("errors", errors.as_str()),
        ("skipped", "0"),
    ];
    counts.extend(seconds.as_deref().map(|seconds| ("time", seconds)));
    writer
        .create_element("testsuites")
        .with_attribute(("name", "podtrace"))
        .with_attributes(counts.iter().copied())
        .write_inner_content(|writer| {
            writer
                .create_element("testsuite")
                .with_attribute(("name", title.as_str()))
                .with_attributes(counts.iter().copied())
                .write_inner_content(|writer| suite(writer, properties, cases, seconds.as_deref()))?;
            Ok(())
        })?;
    let mut document = writer.into_inner();
    document.push(b'\n');
    Ok(document)
}

fn suite(
    writer: &mut Writer<Vec<u8>>,
    properties: &[(&str, String)],
    cases: &[Case<'_>],
    seconds: Option<&str>,
) -> io::Result<()> {
    if !properties.is_empty() {
        writer.create_element("properties").write_inner_content(|writer| {
            for (name, value) in properties {
                writer
                    .create_element("property")
                    .with_attributes([("name", *name), ("value", value.as_str())])
                    .write_empty()?;
            }
            Ok(())
        })?;
    }
    for case in cases {
        let name = clean(case.expression);
        let element = writer
            .create_element("testcase")
            .with_attributes([("name", name.as_str()), ("classname", CLASS)])
            .with_attributes(seconds.map(|seconds| ("time", seconds)));
        match &case.fault {
            None => {
                element.write_empty()?;
            }
            Some(fault) => {
                element.write_inner_content(|writer| {
                    let lines: Vec<_> = fault.text.split('\n').map(clean).collect();
                    writer
                        .create_element(fault.element)
                        .with_attributes([
                            ("message", clean(&fault.message).as_str()),
                            ("type", "expectation"),
                        ])
                        .write_text_content(BytesText::new(&lines.join("\n")))?;
                    Ok(())
                })?;
            }
        }
    }
    Ok(())
}

/// Text that XML may hold: what people could not see is made visible, and what XML forbids even so is left out.
fn clean(text: &str) -> String {
    escape(text).chars().filter(|c| !matches!(c, '\u{fffe}' | '\u{ffff}')).collect()
}
