//! `--expect` and `--junit`: the trace is judged while it is told, and the exit status says how it fared.

use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::path::{Path as FilePath, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};
use tracing::info;

use super::args::Expect;
use super::{DONE, NOT_AS_EXPECTED, NOTHING_SEEN};
use podtrace_path::{Change, Path, Summary};
use podtrace_protocol::inventory::Inventory;
use podtrace_report::expect::{Judge, Judgement, Suite, unfinished};
use podtrace_report::output::Report;

/// The expectations of a trace that is about to begin.
pub(super) struct Judging {
    judge: Judge,
    junit: Option<Junit>,
    title: String,
    started: Instant,
}

impl Judging {
    /// Looks up what the expectations name, and opens the file for the results: all that can be wrong is found before
    /// the trace begins.
    pub(super) fn begin(args: &Expect, inventory: &Inventory, title: &str) -> Result<Self> {
        let mut expectations = args.expect.clone();
        for expectation in &mut expectations {
            expectation.resolve(inventory)?;
        }
        let judge = Judge::new(expectations);
        let junit =
            args.junit.as_deref().map(|path| Junit::begin(path, title, judge.expressions())).transpose()?;
        Ok(Self { judge, junit, title: title.to_owned(), started: Instant::now() })
    }

    /// A report that judges what it passes on.
    pub(super) fn watch(&mut self, report: Box<dyn Report>) -> Watched<'_> {
        Watched { report: Some(report), judge: &mut self.judge }
    }

    /// Says how the expectations fared, writes it to the file, and tells the exit status: `otherwise` if all held.
    pub(super) fn end(self, summary: &Summary, nothing_seen: bool) -> Result<u8> {
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
            junit.end(&suite)?;
        }
        Ok(status(&judgements, nothing_seen))
    }
}

/// That nothing was seen says more than that nothing was as expected; only who counted paths and had it right
/// expected just that.
fn status(judgements: &[Judgement], nothing_seen: bool) -> u8 {
    let held = judgements.iter().all(|judgement| judgement.held);
    let silence = judgements.iter().any(|judgement| judgement.expects_silence);
    match (held, nothing_seen) {
        (true, true) if silence => DONE,
        (_, true) => NOTHING_SEEN,
        (true, false) => DONE,
        (false, false) => NOT_AS_EXPECTED,
    }
}

/// A report whose paths are judged, too.
pub(super) struct Watched<'a> {
    /// `None` once nobody reads it any more: the trace is still to be judged.
    report: Option<Box<dyn Report>>,
    judge: &'a mut Judge,
}

impl Watched<'_> {
    fn tell(&mut self, tell: impl FnOnce(&mut dyn Report) -> io::Result<()>) -> io::Result<()> {
        let Some(report) = &mut self.report else { return Ok(()) };
        match tell(&mut **report) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe && !self.judge.is_idle() => {
                self.report = None;
                Ok(())
            }
            result => result,
        }
    }
}

impl Report for Watched<'_> {
    fn path(&mut self, path: &Path) -> io::Result<()> {
        self.judge.path(path);
        self.tell(|report| report.path(path))
    }

    fn change(&mut self, change: &Change) -> io::Result<()> {
        self.tell(|report| report.change(change))
    }

    fn lacks(&mut self, what: &str) -> io::Result<()> {
        self.tell(|report| report.lacks(what))
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        self.tell(|report| report.summary(summary))
    }
}

/// The file for the results.
struct Junit {
    path: PathBuf,
    file: File,
}

impl Junit {
    /// Opens it. Until the trace ends it says that it has not: a tracer that is killed leaves no old success behind.
    fn begin<'a>(path: &FilePath, title: &str, expressions: impl Iterator<Item = &'a str>) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("creating {} for --junit", path.display()))?;
        let mut junit = Self { path: path.to_owned(), file };
        // What is written to a pipe or a terminal cannot be taken back.
        if junit.is_file() {
            junit.write(&unfinished(title, expressions)?)?;
        }
        Ok(junit)
    }

    fn end(mut self, suite: &Suite<'_>) -> Result<()> {
        let document = suite.document().context("making the JUnit file")?;
        if self.is_file() {
            self.file.rewind().and_then(|()| self.file.set_len(0)).with_context(|| self.doing())?;
        }
        self.write(&document)
    }

    fn is_file(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| metadata.is_file())
    }

    fn write(&mut self, document: &[u8]) -> Result<()> {
        self.file.write_all(document).and_then(|()| self.file.flush()).with_context(|| self.doing())
    }

    fn doing(&self) -> String {
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
    fn the_exit_status_tells_the_cause() {
        let request = [samples::cross_node_request()];
        for (expressions, paths, nothing_seen, expected) in [
            (&["delivered"][..], &request[..], false, DONE),
            (&["delivered", "dropped"], &request, false, NOT_AS_EXPECTED),
            (&["delivered"], &[], false, NOT_AS_EXPECTED),
            (&["delivered"], &[], true, NOTHING_SEEN),
            (&["complete"], &[], true, NOTHING_SEEN),
            (&["paths == 0"], &[], true, DONE),
            (&["paths == 0", "delivered"], &[], true, NOTHING_SEEN),
            (&[], &[], true, NOTHING_SEEN),
            (&[], &[], false, DONE),
        ] {
            let judged = judgements(expressions, paths);
            assert_eq!(status(&judged, nothing_seen), expected, "{expressions:?} {nothing_seen}");
        }
    }

    #[test]
    fn a_closed_pipe_ends_the_telling_and_not_the_judging() {
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
        let mut watched = Watched { report: Some(Box::new(Closed)), judge: &mut judge };
        let summary = Summary { complete: true, ..Summary::default() };
        watched.path(&samples::cross_node_request()).unwrap();
        watched.path(&samples::cross_node_reply()).unwrap();
        watched.summary(&summary).unwrap();
        assert!(judge.summary(&summary)[0].held);
        let mut judge = Judge::new(Vec::new());
        let mut watched = Watched { report: Some(Box::new(Closed)), judge: &mut judge };
        assert!(watched.path(&samples::cross_node_request()).is_err());
    }

    #[test]
    fn the_file_tells_at_any_time_how_far_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("junit.xml");
        let args = Expect {
            expect: vec![
                "delivered and hops <= 8 and via \"a-rather-long-name\" and not via cni0".parse().unwrap(),
            ],
            junit: Some(path.clone()),
        };
        let judging = Judging::begin(&args, &Inventory::default(), "a → b").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("errors=\"1\"") && text.contains("the trace has not ended"), "{text}");
        let summary = Summary { complete: true, ..Summary::default() };
        assert_eq!(judging.end(&summary, false).unwrap(), NOT_AS_EXPECTED);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("failures=\"1\" errors=\"0\""), "{text}");
        assert!(text.trim_end().ends_with("</testsuites>"), "{text}");
        let args = Expect { junit: Some(folder.path().join("nowhere/junit.xml")), ..args };
        assert!(Judging::begin(&args, &Inventory::default(), "a → b").is_err());
    }
}
