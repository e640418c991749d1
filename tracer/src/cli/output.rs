//! Sets up the outputs of a trace: stdout and the HTML page.

use std::io::{self, BufWriter, IsTerminal as _, Stdout};
use std::path::{Path as FilePath, PathBuf};

use anstream::{AutoStream, ColorChoice};
use anyhow::{Context as _, Result};
use terminal_size::{Width, terminal_size_of};

use super::UsageError;
use super::args::{Color, Format, Output, VerdictName};
use crate::files::{self, Inputs, OutputFile};
use podtrace_path::{Change, Path, Summary, Verdict};
use podtrace_protocol::stats::Stats;
use podtrace_report::output::{Drops, Html, Json, Paths, Report, StatsTable, Text, UNLIMITED, View};
use podtrace_report::totals::Finished;

/// Where the page of `--html -` goes.
const STDOUT: &str = "/dev/stdout";

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
/// `inputs` are not overwritten.
pub(super) fn reports(
    output: &Output,
    title: &str,
    stdout_is_taken: bool,
    inputs: &Inputs,
) -> Result<Box<dyn Report>> {
    let page_on_stdout = output.html.as_deref().is_some_and(|path| path == FilePath::new("-"));
    if page_on_stdout && stdout_is_taken {
        return Err(UsageError(
            "--write - and --html - both write to stdout: name a file for one".to_owned(),
        )
        .into());
    }
    let shown = if stdout_is_taken || page_on_stdout {
        Box::new(Json::new(io::sink()))
    } else {
        report(output.output, view(output))
    };
    let html = if page_on_stdout { Some(PathBuf::from(STDOUT)) } else { output.html.clone() };
    Ok(match &html {
        Some(path) => {
            Box::new(WithPage { shown: Some(shown), page: Some(Page::begin(path, title, inputs)?) })
        }
        None => shown,
    })
}

/// The report for `-o`, on stdout.
pub(super) fn report(format: Format, view: View) -> Box<dyn Report> {
    match format {
        Format::Text => Box::new(Text::new(stdout()).with(view)),
        Format::Summary => Box::new(Text::new(stdout()).with(View { paths: Paths::None, ..view })),
        Format::Flows => Box::new(Text::new(stdout()).with(View { paths: Paths::None, flows: true, ..view })),
        Format::Drops => Box::new(Drops::new(stdout()).with_width(view.width)),
        Format::Wide => Box::new(Text::wide(stdout()).with(view)),
        Format::Json => Box::new(Json::new(BufWriter::new(io::stdout())).with(view)),
    }
}

/// The report of `--stats`, on stdout.
pub(super) fn stats_report(format: Format) -> Result<Box<dyn Report>> {
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    let is_live = io::stdout().is_terminal() && !is_dumb;
    match format {
        Format::Text => Ok(Box::new(StatsTable::new(stdout(), width(), is_live))),
        Format::Json => Ok(Box::new(Json::new(BufWriter::new(io::stdout())))),
        Format::Summary | Format::Flows | Format::Drops | Format::Wide => {
            Err(UsageError("--stats has no paths to show: use -o text or -o json".to_owned()).into())
        }
    }
}

/// What `--all`, `--verdict` and `--failed` show, as wide as the terminal.
fn view(output: &Output) -> View {
    let verdicts = if output.failed {
        vec![Verdict::Dropped, Verdict::Vanished, Verdict::Rejected]
    } else {
        output.verdict.iter().map(|name| verdict(*name)).collect()
    };
    let paths = if output.all { Paths::All } else { Paths::Folded };
    View { width: width(), paths, verdicts, ..View::default() }
}

fn verdict(name: VerdictName) -> Verdict {
    match name {
        VerdictName::Delivered => Verdict::Delivered,
        VerdictName::Dropped => Verdict::Dropped,
        VerdictName::Vanished => Verdict::Vanished,
        VerdictName::Rejected => Verdict::Rejected,
        VerdictName::Open => Verdict::Open,
    }
}

/// Columns of a terminal that does not know its own.
const COLUMNS: usize = 80;

/// Columns of the terminal. Unlimited if stdout is none: other programs want whole lines.
pub(super) fn width() -> usize {
    match terminal_size_of(io::stdout()) {
        _ if !io::stdout().is_terminal() => UNLIMITED,
        Some((Width(columns), _)) if columns > 0 => usize::from(columns),
        _ => COLUMNS,
    }
}

pub(super) fn stdout() -> AutoStream<Stdout> {
    AutoStream::auto(io::stdout())
}

/// A report on stdout that is also written as an HTML page.
struct WithPage {
    /// `None` after a broken pipe: the page still needs the rest of the trace.
    shown: Option<Box<dyn Report>>,
    /// `None` after an error: nothing can follow what was written by half.
    page: Option<Page>,
}

impl WithPage {
    fn write(
        &mut self,
        write: impl FnOnce(&mut Html<BufWriter<OutputFile>>) -> io::Result<()>,
    ) -> io::Result<()> {
        let Some(page) = &mut self.page else { return Ok(()) };
        let written = page.write(write);
        if written.is_err() {
            self.page = None;
        }
        written
    }

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
        let written = self.write(|page| page.path(path));
        self.show(|shown| shown.path(path))?;
        written
    }

    fn change(&mut self, change: &Change) -> io::Result<()> {
        let written = self.write(|page| page.change(change));
        self.show(|shown| shown.change(change))?;
        written
    }

    fn stats(&mut self, node: &str, stats: &Stats) -> io::Result<()> {
        let written = self.write(|page| page.stats(node, stats));
        self.show(|shown| shown.stats(node, stats))?;
        written
    }

    fn damage(&mut self, damage: &str) -> io::Result<()> {
        let written = self.write(|page| page.damage(damage));
        self.show(|shown| shown.damage(damage))?;
        written
    }

    fn totals(&mut self, totals: &Finished) -> io::Result<()> {
        let written = self.write(|page| page.totals(totals));
        self.show(|shown| shown.totals(totals))?;
        written
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        let written = self.write(|page| page.summary(summary));
        self.show(|shown| shown.summary(summary))?;
        written
    }
}

/// The page of `--html`, whose errors name the file.
struct Page {
    path: PathBuf,
    page: Html<BufWriter<OutputFile>>,
}

impl Page {
    fn begin(path: &FilePath, title: &str, inputs: &Inputs) -> Result<Self> {
        let file =
            files::create(path, inputs).with_context(|| format!("creating {} for --html", path.display()))?;
        let page = Html::begin(BufWriter::new(file), title)
            .with_context(|| format!("writing {} for --html", path.display()))?;
        Ok(Self { path: path.to_owned(), page })
    }

    fn write(
        &mut self,
        write: impl FnOnce(&mut Html<BufWriter<OutputFile>>) -> io::Result<()>,
    ) -> io::Result<()> {
        write(&mut self.page)
            // The kind tells a closed pipe from a failure.
            .map_err(|error| {
                let text = format!("writing {} for --html: {error}", self.path.display());
                io::Error::new(error.kind(), text)
            })
    }
}
