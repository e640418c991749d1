//! Where the trace goes: to stdout, and to files.

use std::fs::File;
use std::io::{self, BufWriter, Stdout};
use std::path::{Path as FilePath, PathBuf};

use anstream::{AutoStream, ColorChoice};
use anyhow::{Context as _, Result};

use super::args::{Color, Format, Output};
use podtrace_path::{Change, Path, Summary};
use podtrace_report::output::{Html, Json, Report, Text};

/// Makes the choice of `--color` known to stdout and stderr.
pub(super) fn choose_color(color: Color) {
    let choice = match color {
        Color::Auto => ColorChoice::Auto,
        Color::Always => ColorChoice::Always,
        Color::Never => ColorChoice::Never,
    };
    choice.write_global();
}

/// The report that `-o` asks for, on stdout unless that is taken, and those that go to files with it; `title` says what
/// was traced.
pub(super) fn reports(output: &Output, title: &str, stdout_is_taken: bool) -> Result<Box<dyn Report>> {
    let shown = if stdout_is_taken { Box::new(Json::new(io::sink())) } else { report(output.output) };
    Ok(match &output.html {
        Some(path) => Box::new(Kept { shown: Some(shown), page: Page::begin(path, title)? }),
        None => shown,
    })
}

/// The report that `-o` asks for, on stdout.
pub(super) fn report(format: Format) -> Box<dyn Report> {
    match format {
        Format::Text => Box::new(Text::new(stdout())),
        Format::Wide => Box::new(Text::wide(stdout())),
        Format::Json => Box::new(Json::new(BufWriter::new(io::stdout()))),
    }
}

fn stdout() -> AutoStream<Stdout> {
    AutoStream::auto(io::stdout())
}

/// A report that is shown, and kept as a page.
struct Kept {
    /// `None` once nobody reads it any more: the page is still wanted whole.
    shown: Option<Box<dyn Report>>,
    page: Page,
}

impl Kept {
    fn show(&mut self, tell: impl FnOnce(&mut dyn Report) -> io::Result<()>) -> io::Result<()> {
        let Some(shown) = &mut self.shown else { return Ok(()) };
        match tell(&mut **shown) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.shown = None;
                Ok(())
            }
            result => result,
        }
    }
}

impl Report for Kept {
    fn path(&mut self, path: &Path) -> io::Result<()> {
        self.page.tell(|page| page.path(path))?;
        self.show(|shown| shown.path(path))
    }

    fn change(&mut self, change: &Change) -> io::Result<()> {
        self.page.tell(|page| page.change(change))?;
        self.show(|shown| shown.change(change))
    }

    fn lacks(&mut self, what: &str) -> io::Result<()> {
        self.page.tell(|page| page.lacks(what))?;
        self.show(|shown| shown.lacks(what))
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        self.page.tell(|page| page.summary(summary))?;
        self.show(|shown| shown.summary(summary))
    }
}

/// The page of `--html`, whose errors say which file could not be written.
struct Page {
    path: PathBuf,
    page: Html<BufWriter<File>>,
}

impl Page {
    fn begin(path: &FilePath, title: &str) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("creating {} for --html", path.display()))?;
        let page = Html::begin(BufWriter::new(file), title)
            .with_context(|| format!("writing {} for --html", path.display()))?;
        Ok(Self { path: path.to_owned(), page })
    }

    fn tell(&mut self, tell: impl FnOnce(&mut Html<BufWriter<File>>) -> io::Result<()>) -> io::Result<()> {
        tell(&mut self.page)
            .map_err(|error| io::Error::other(format!("writing {} for --html: {error}", self.path.display())))
    }
}
