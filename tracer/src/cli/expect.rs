//! `--expect` and `--junit`: judges the trace while it is reported, and determines the exit status.

use std::io::{self, Seek as _, Write as _};
use std::path::{Path as FilePath, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};
use tracing::info;

use super::args::Expect;
use super::{EXPECTATION_FAILED, NO_PACKET, SUCCESS};
use crate::files::{self, Inputs, OutputFile};
use podtrace_path::{Change, Path, Summary};
use podtrace_protocol::inventory::Inventory;
use podtrace_protocol::stats::Stats;
use podtrace_report::expect::{Judge, Judgement, Suite, unfinished};
use podtrace_report::output::Report;
use podtrace_report::totals::Finished;

/// The expectations of a trace, and the JUnit file for their results.
pub(super) struct Judging {
    judge: Judge,
    junit: Option<Junit>,
    title: String,
    started: Instant,
}

impl Judging {
    /// Resolves names in the expectations and creates the JUnit file, so that errors are found before the trace starts.
    /// `inputs` are not overwritten.
    pub(super) fn start(args: &Expect, inventory: &Inventory, title: &str, inputs: &Inputs) -> Result<Self> {
        let mut expectations = args.expect.clone();
        for expectation in &mut expectations {
            expectation.resolve(inventory)?;
        }
        let judge = Judge::new(expectations);
        let create = |path| Junit::create(path, title, judge.expressions(), inputs);
        let junit = args.junit.as_deref().map(create).transpose()?;
        Ok(Self { judge, junit, title: title.to_owned(), started: Instant::now() })
    }

    /// A report that judges paths and forwards them to `report`.
    pub(super) fn wrap(&mut self, report: Box<dyn Report>) -> JudgedReport<'_> {
        JudgedReport { report: Some(report), judge: &mut self.judge }
    }

    /// Prints the results, writes the JUnit file, and returns the exit status.
    pub(super) fn finish(self, summary: &Summary, nothing_seen: bool) -> Result<u8> {
        let Self { judge, junit, title, started } = self;
        let judgements = judge.summary(summary);
        for judgement in &judgements {
            if judgement.held {
                info!("{}", judgement.headline());
            } else {
                for line in judgement.lines() {
                    anstream::eprintln!("{line}");
                }
            }
        }
        if let Some(junit) = junit {
            let suite = Suite { title: &title, summary, judgements: &judgements, time: started.elapsed() };
            junit.finish(&suite)?;
        }
        Ok(status(&judgements, nothing_seen))
    }
}

/// The exit status. Without any packet, failed expectations follow from that, so the status says that there was none; except
/// if all expectations passed and one of them counts paths, such as `paths == 0`.
fn status(judgements: &[Judgement], nothing_seen: bool) -> u8 {
    let held = judgements.iter().all(|judgement| judgement.held);
    let silence = judgements.iter().any(|judgement| judgement.expects_silence);
    match (held, nothing_seen) {
        (true, true) if silence => SUCCESS,
        (_, true) => NO_PACKET,
        (true, false) => SUCCESS,
        (false, false) => EXPECTATION_FAILED,
    }
}

/// A report that also judges the paths.
pub(super) struct JudgedReport<'a> {
    /// `None` after a broken pipe: the expectations still need the rest of the trace.
    report: Option<Box<dyn Report>>,
    judge: &'a mut Judge,
}

impl JudgedReport<'_> {
    fn forward(&mut self, write: impl FnOnce(&mut dyn Report) -> io::Result<()>) -> io::Result<()> {
        let Some(report) = &mut self.report else { return Ok(()) };
        match write(&mut **report) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe && !self.judge.is_idle() => {
                self.report = None;
                Ok(())
            }
            result => result,
        }
    }
}

impl Report for JudgedReport<'_> {
    fn path(&mut self, path: &Path) -> io::Result<()> {
        self.judge.path(path);
        self.forward(|report| report.path(path))
    }

    fn change(&mut self, change: &Change) -> io::Result<()> {
        self.forward(|report| report.change(change))
    }

    fn stats(&mut self, node: &str, stats: &Stats) -> io::Result<()> {
        self.forward(|report| report.stats(node, stats))
    }

    fn damage(&mut self, damage: &str) -> io::Result<()> {
        self.forward(|report| report.damage(damage))
    }

    fn totals(&mut self, totals: &Finished) -> io::Result<()> {
        self.forward(|report| report.totals(totals))
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        self.forward(|report| report.summary(summary))
    }
}

/// The JUnit file.
struct Junit {
    path: PathBuf,
    file: OutputFile,
}

impl Junit {
    /// Creates the file with an error in each test case, so that a killed tracer leaves no old success behind.
    fn create<'a>(
        path: &FilePath,
        title: &str,
        expressions: impl Iterator<Item = &'a str>,
        inputs: &Inputs,
    ) -> Result<Self> {
        let file = files::create(path, inputs)
            .with_context(|| format!("creating {} for --junit", path.display()))?;
        let mut junit = Self { path: path.to_owned(), file };
        // Output to a pipe or terminal cannot be replaced later.
        if junit.is_file() {
            junit.write(&unfinished(title, expressions)?)?;
        }
        Ok(junit)
    }

    fn finish(mut self, suite: &Suite<'_>) -> Result<()> {
        let document = suite.document().context("rendering the JUnit file")?;
        if self.is_file() {
            self.file
                .file()
                .rewind()
                .and_then(|()| self.file.file().set_len(0))
                .with_context(|| self.action())?;
        }
        self.write(&document)
    }

    fn is_file(&self) -> bool {
        self.file.file().metadata().is_ok_and(|metadata| metadata.is_file())
    }

    fn write(&mut self, document: &[u8]) -> Result<()> {
        self.file.write_all(document).and_then(|()| self.file.flush()).with_context(|| self.action())
    }

    fn action(&self) -> String {
        format!("writing {} for --junit", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use podtrace_report::output::samples;

    fn judgements(expressions: &[&str], paths: &[Path]) -> Vec<Judgement> {
        let mut judge = Judge::new(expressions.iter().map(|text| text.parse().unwrap()).collect());
        for path in paths {
            judge.path(path);
        }
        judge.summary(&Summary { complete: true, ..Summary::default() })
    }

    #[test]
    fn the_exit_status_shows_the_cause() {
        let request = [samples::cross_node_request()];
        for (expressions, paths, nothing_seen, expected) in [
            (&["delivered"][..], &request[..], false, SUCCESS),
            (&["delivered", "dropped"], &request, false, EXPECTATION_FAILED),
            (&["delivered"], &[], false, EXPECTATION_FAILED),
            (&["delivered"], &[], true, NO_PACKET),
            (&["complete"], &[], true, NO_PACKET),
            (&["paths == 0"], &[], true, SUCCESS),
            (&["paths == 0", "delivered"], &[], true, NO_PACKET),
            (&[], &[], true, NO_PACKET),
            (&[], &[], false, SUCCESS),
        ] {
            let judged = judgements(expressions, paths);
            assert_eq!(status(&judged, nothing_seen), expected, "{expressions:?} {nothing_seen}");
        }
    }

    #[test]
    fn a_closed_pipe_stops_the_output_but_not_the_judging() {
        struct Closed;
        impl Report for Closed {
            fn path(&mut self, _: &Path) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn summary(&mut self, _: &Summary) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        let mut judge = Judge::new(vec!["paths == 2".parse().unwrap()]);
        let mut report = JudgedReport { report: Some(Box::new(Closed)), judge: &mut judge };
        let summary = Summary { complete: true, ..Summary::default() };
        report.path(&samples::cross_node_request()).unwrap();
        report.path(&samples::cross_node_reply()).unwrap();
        report.summary(&summary).unwrap();
        assert!(judge.summary(&summary)[0].held);
        let mut judge = Judge::new(Vec::new());
        let mut report = JudgedReport { report: Some(Box::new(Closed)), judge: &mut judge };
        assert!(report.path(&samples::cross_node_request()).is_err());
    }

    #[test]
    fn the_file_is_valid_before_and_after_the_trace() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("junit.xml");
        let args = Expect {
            expect: vec![
                "delivered and hops <= 8 and via \"a-rather-long-name\" and not via cni0".parse().unwrap(),
            ],
            junit: Some(path.clone()),
        };
        let judging = Judging::start(&args, &Inventory::default(), "a → b", &Inputs::default()).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("errors=\"1\"") && text.contains("the trace did not finish"), "{text}");
        let summary = Summary { complete: true, ..Summary::default() };
        assert_eq!(judging.finish(&summary, false).unwrap(), EXPECTATION_FAILED);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("failures=\"1\" errors=\"0\""), "{text}");
        assert!(text.trim_end().ends_with("</testsuites>"), "{text}");
        let args = Expect { junit: Some(folder.path().join("nowhere/junit.xml")), ..args };
        assert!(Judging::start(&args, &Inventory::default(), "a → b", &Inputs::default()).is_err());
    }
}
