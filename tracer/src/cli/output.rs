//! Sets up the outputs of a trace: stdout and the HTML page.

use std::fs::File;
use std::io::{self, BufWriter, Stdout};
use std::path::{Path as FilePath, PathBuf};

use anstream::{AutoStream, ColorChoice};
use anyhow::{Context as _, Result};

use super::args::{Color, Format, Output};
use podtrace_path::{Change, Path, Summary};
use podtrace_report::output::{Html, Json, Report, Text};

/// Applies `--color` to stdout and stderr.
pub(super) fn choose_color(color: Color) {
    let choice = match color {
        Color::Auto => ColorChoice::Auto,
        Color::Always => ColorChoice::Always,
        Color::Never => ColorChoice::Never,
    };
    choice.write_global();
}

/// The reports of a trace: `-o` on stdout, unless a recording goes there, and `--html`. `title` names what is traced.
pub(super) fn reports(output: &Output, title: &str, stdout_is_taken: bool) -> Result<Box<dyn Report>> {
    let shown = if stdout_is_taken { Box::new(Json::new(io::sink())) } else { report(output.output) };
    Ok(match &output.html {
        Some(path) => Box::new(WithPage { shown: Some(shown), page: Page::begin(path, title)? }),
        None => shown,
    })
}

/// The report for `-o`, on stdout.
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

/// A report on stdout that is also written as an HTML page.
struct WithPage {
    /// `None` after a broken pipe: the page still needs the rest of the trace.
    shown: Option<Box<dyn Report>>,
    page: Page,
}

impl WithPage {
    fn show(&mut self, write: impl FnOnce(&mut dyn Report) -> io::Result<()>) -> io::Result<()> {
        let Some(shown) = &mut self.shown else { return Ok(()) };
        match write(&mut **shown) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.shown = None;
                Ok(())
            }
            result => result,
        }
    }
}

impl Report for WithPage {
    fn path(&mut self, path: &Path) -> io::Result<()> {
        self.page.write(|page| page.path(path))?;
        self.show(|shown| shown.path(path))
    }

    fn change(&mut self, change: &Change) -> io::Result<()> {
        self.page.write(|page| page.change(change))?;
        self.show(|shown| shown.change(change))
    }

    fn damage(&mut self, damage: &str) -> io::Result<()> {
        self.page.write(|page| page.damage(damage))?;
        self.show(|shown| shown.damage(damage))
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        self.page.write(|page| page.summary(summary))?;
        self.show(|shown| shown.summary(summary))
    }
}

/// The page of `--html`, whose errors name the file.
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

    fn write(&mut self, write: impl FnOnce(&mut Html<BufWriter<File>>) -> io::Result<()>) -> io::Result<()> {
        write(&mut self.page)
            .map_err(|error| io::Error::other(format!("writing {} for --html: {error}", self.path.display())))
    }
}
