//! The command line: parses arguments, runs the command, and sets the exit status.

mod args;
mod demo;
mod diff;
mod doctor;
mod drops;
mod ends;
mod expect;
mod lab;
mod look;
mod notes;
mod output;
mod plan;
mod read;
mod sample;
mod size;
mod source;
mod status;
#[cfg(test)]
mod table_tests;
mod top;
mod topology;
mod trace;
mod write;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use clap::{CommandFactory as _, Parser as _};

pub use args::Cli;
use args::Command;

use crate::cluster::AGENT_ONLY;
use podtrace_protocol::inventory::ResolveError;

/// Success.
const SUCCESS: u8 = 0;
/// Could not run.
const FAILED: u8 = 1;
/// Usage error.
const USAGE: u8 = 2;
/// An expectation failed.
const EXPECTATION_FAILED: u8 = 3;
/// Something is wrong with the cluster's network, or packets were dropped.
const FINDINGS: u8 = 3;
/// No matching packet before `--timeout`.
const NO_PACKET: u8 = 4;

/// A usage error that clap cannot detect.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct UsageError(String);

/// Runs podtrace.
#[must_use]
pub fn main() -> ExitCode {
    let cli = parse();
    if std::env::var_os(AGENT_ONLY).is_some() && !matches!(cli.command, Some(Command::Agent(_))) {
        anstream::eprintln!("podtrace: only `podtrace agent` runs in an agent's pod ({AGENT_ONLY} is set)");
        return ExitCode::from(FAILED);
    }
    let result = match cli.command {
        None if std::env::args_os().len() <= 1 => help(),
        None => trace::run(&cli.trace).map_err(|error| with_hint(error, &cli.trace.words)),
        Some(Command::Read(args)) => read::run(&args),
        Some(Command::Diff(args)) => diff::run(&args),
        Some(Command::Doctor(args)) => doctor::run(&args),
        Some(Command::Top(args)) => top::run(&args),
        Some(Command::Drops(args)) => drops::run(&args),
        Some(Command::Topology(args)) => topology::run(&args),
        Some(Command::Lab(args)) => lab::run(&args),
        Some(Command::Demo) => demo::run(),
        Some(Command::Agent(args)) => agent(args.idle),
        Some(Command::Manifest(args)) => manifest(&args),
        Some(Command::Completions { shell }) => completions(shell),
        Some(Command::Man) => man(),
    };
    match result {
        Ok(status) => ExitCode::from(status),
        Err(error) if is_broken_pipe(&error) => ExitCode::from(SUCCESS),
        Err(error) => {
            // Always one line: causes may contain line breaks.
            anstream::eprintln!("podtrace: {}", podtrace_escape::escape(&format!("{error:#}")));
            let usage = error.downcast_ref::<UsageError>().is_some();
            ExitCode::from(if usage { USAGE } else { FAILED })
        }
    }
}

/// The command line. Options may also stand before a command, as in `podtrace --cluster FILE topology`.
fn parse() -> Cli {
    let typed: Vec<OsString> = std::env::args_os().collect();
    let cli = Cli::try_parse_from(&typed).unwrap_or_else(|error| error.exit());
    match command_first(&typed, &cli) {
        Some(moved) => Cli::parse_from(moved),
        None => cli,
    }
}

/// The arguments with the command before its options, if the first bare argument is a command. A pod of that name is
/// `pod/NAME`.
fn command_first(typed: &[OsString], cli: &Cli) -> Option<Vec<OsString>> {
    let name = cli.trace.words.first()?;
    let command = Cli::command();
    let is_command = command
        .get_subcommands()
        .any(|command| command.get_name() == name || command.get_all_aliases().any(|alias| alias == name));
    // An option may have the same word as its value.
    let has_no_words =
        |before: &[OsString]| Cli::try_parse_from(before).is_ok_and(|cli| cli.trace.words.is_empty());
    let mut places = (1..typed.len()).filter(|at| typed[*at] == **name);
    let at = places.find(|at| has_no_words(&typed[..*at])).filter(|_| is_command)?;
    let (before, rest) = (&typed[1..at], &typed[at + 1..]);
    Some([&typed[..1], &typed[at..=at], before, rest].concat())
}

/// Adds the command that a user may have meant, where a single word was taken for an endpoint that does not exist.
fn with_hint(error: anyhow::Error, words: &[String]) -> anyhow::Error {
    let is_unknown = error.downcast_ref::<ResolveError>().is_some()
        || error.chain().any(|cause| cause.to_string().starts_with("no cluster found"));
    match (words, is_unknown) {
        ([word], true) => match meant(word) {
            Some(command) => anyhow!("{error:#}; did you mean the command `podtrace {command}`?"),
            None => error,
        },
        _ => error,
    }
}

/// The command whose name differs from a word by a slip of the fingers.
fn meant(word: &str) -> Option<String> {
    let command = Cli::command();
    let names = command.get_subcommands().filter(|command| !command.is_hide_set());
    let distance = |name: &str| strsim::osa_distance(word, name);
    let close = names.map(|command| command.get_name().to_owned()).filter(|name| {
        // Of a short name, one letter makes another word.
        distance(name) <= if name.len() > 4 { 2 } else { 1 }
    });
    close.min_by_key(|name| distance(name))
}

fn help() -> Result<u8> {
    Cli::command().print_help().context("writing to stdout")?;
    Ok(SUCCESS)
}

/// Whether the reader of stdout closed it, as `head` does, which is not an error.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let is = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(is))
}

/// Errors are sent to the tracer over the protocol, which prints them.
fn agent(idle: Option<Option<Duration>>) -> Result<u8> {
    if let Some(limit) = idle {
        crate::agent::idle(limit);
        return Ok(SUCCESS);
    }
    Ok(if crate::agent::serve().is_ok() { SUCCESS } else { FAILED })
}

fn manifest(args: &args::Manifest) -> Result<u8> {
    print(crate::cluster::kube::manifest(&args.image, !args.no_admission_policy).as_bytes())
}

fn completions(shell: clap_complete::Shell) -> Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "podtrace", &mut script);
    print(&script)
}

fn man() -> Result<u8> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page).context("rendering the man page")?;
    print(&page)
}

fn print(bytes: &[u8]) -> Result<u8> {
    use io::Write as _;
    io::stdout().write_all(bytes).context("writing to stdout")?;
    Ok(SUCCESS)
}

/// The event loop of a command.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting the event loop")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use clap::CommandFactory as _;

    use super::Cli;

    /// Words of ours that nobody else uses; CONTRIBUTING.md has the plain ones.
    const PRIVATE_WORDS: [&str; 2] = ["told", "of interest"];

    fn private_words(text: &str) -> Vec<&str> {
        let words = text.to_lowercase();
        let is_word = |character: Option<char>| character.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let has = |private: &&str| {
            words.match_indices(private).any(|(at, _)| {
                !is_word(words[..at].chars().next_back())
                    && !is_word(words[at + private.len()..].chars().next())
            })
        };
        PRIVATE_WORDS.into_iter().filter(has).collect()
    }

    fn help_texts(command: &mut clap::Command, texts: &mut Vec<(String, String)>) {
        texts.push((format!("help of {}", command.get_name()), command.render_long_help().to_string()));
        for subcommand in command.get_subcommands_mut() {
            help_texts(subcommand, texts);
        }
    }

    fn files(path: &Path, files_found: &mut Vec<PathBuf>) {
        if path.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                files(&entry.unwrap().path(), files_found);
            }
        } else if path.extension().is_some_and(|extension| {
            ["md", "json", "txt", "html", "yaml"].iter().any(|text| extension == *text)
        }) {
            files_found.push(path.to_owned());
        }
    }

    #[test]
    fn a_mistyped_command_is_recognised() {
        for (word, command) in [
            ("topolgy", Some("topology")),
            ("drop", Some("drops")),
            ("docter", Some("doctor")),
            ("tpo", Some("top")),
            ("web", None),
            ("pod1", None),
            ("coredns", None),
        ] {
            assert_eq!(super::meant(word).as_deref(), command, "{word}");
        }
    }

    #[test]
    fn users_read_no_private_words() {
        let mut texts = Vec::new();
        help_texts(&mut Cli::command(), &mut texts);
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut paths = Vec::new();
        for path in [
            "README.md",
            "docs",
            "schema",
            "tests/recordings",
            "tests/scenarios",
            "tracer/report/src/output/snapshots",
        ] {
            files(&root.join(path), &mut paths);
        }
        texts.extend(
            paths.into_iter().map(|path| (path.display().to_string(), fs::read_to_string(path).unwrap())),
        );
        assert!(texts.len() > 100, "only {} texts were found", texts.len());
        for (name, text) in texts {
            assert_eq!(private_words(&text), [""; 0], "in {name}");
        }
        assert_eq!(private_words("Paths are told, of interest; retold, told_by"), ["told", "of interest"]);
    }
}
