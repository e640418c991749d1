//! Replays `recordings/*.pcapng` to every output and compares with the files beside them: no root, no packets, no kernel.
//!
//! `PODTRACE_RECORD=1` (as root) records the scenarios of the same names again, and `PODTRACE_BLESS=1` updates the expected
//! outputs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anstream::StripStream;
use anyhow::{Context as _, Result, bail, ensure};
use libtest_mimic::Trial;
use podtrace_protocol::frame::PROTOCOL_VERSION;
use podtrace_report::output::{Html, Json, Paths, Report, Text, View};
use podtrace_report::recording::Reader;
use podtrace_report::replay::{ReplayOptions, Replayed, replay};
use podtrace_tests::scenario::Scenario;
use podtrace_tests::{lossy, scenario, schema, suite};

/// Recordings that are also read cut off, at many places each.
const CUT_OFF: [&str; 12] = [
    "cross-node-ping",
    "dead-pod",
    "error-through-nat",
    "fragments",
    "lost-fdb-entry",
    "lost-wire",
    "nft-forward-drop",
    "nodeport-other-node",
    "same-node-ping",
    "service-other-node",
    "tcp-connection",
    "udp-closed-port",
];

/// How the outputs other than JSON tell a recording, by the ends of their files' names.
const OUTPUTS: [(&str, Render); 3] = [("txt", text), ("wide.txt", wide), ("page.txt", page)];

type Render = fn(&[u8]) -> Result<String>;

/// A recording is cut off at every so many bytes.
const CUT: usize = 97;

fn main() -> ExitCode {
    suite::run_if(trials())
}

/// Every scenario has its recording.
fn trials() -> Result<Vec<Trial>> {
    let scenarios = scenario::all()?;
    let names: Vec<String> = scenarios.iter().map(|(name, _)| name.clone()).collect();
    // Before any trial reads one.
    if std::env::var_os("PODTRACE_RECORD").is_some() {
        let record = |(name, scenario): (String, Scenario)| {
            suite::plain(format!("record-{name}"), move || record(&name, &scenario))
        };
        return Ok(scenarios.into_iter().map(record).collect());
    }
    let mut trials = Vec::new();
    for name in &names {
        let own = name.clone();
        trials.push(suite::plain(format!("told-again-{name}"), move || told_again(&own)));
        for (output, render) in OUTPUTS {
            let own = name.clone();
            trials.push(suite::plain(format!("{output}-of-{name}"), move || rendered(&own, output, render)));
        }
    }
    for name in &names {
        let own = name.clone();
        trials.push(suite::plain(format!("with-events-left-out-{name}"), move || left_out(&own)));
    }
    for name in CUT_OFF {
        trials.push(suite::plain(format!("cut-off-{name}"), move || cut_off(name)));
    }
    trials.push(suite::plain("recorded-by-the-previous-version", recorded_by_the_previous_version));
    trials.push(suite::plain("nothing-is-left-over", move || nothing_left_over(&names)));
    Ok(trials)
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings")
}

fn recording(name: &str) -> PathBuf {
    directory().join(format!("{name}.pcapng"))
}

fn told_again(name: &str) -> Result<()> {
    let bytes = fs::read(recording(name)).with_context(|| format!("reading the recording {name}"))?;
    let (finished, damage) = tell(&bytes)?;
    if let Some(damage) = damage {
        bail!("{damage}");
    }
    for line in finished.lines() {
        schema::parse(line)?;
    }
    ensure!(finished.contains("\"type\":\"summary\""), "it does not tell to the end");
    compare(name, "json", &finished)
}

/// A recording of the protocol's previous version (`previous/README.md`) is read whole, and without a warning.
fn recorded_by_the_previous_version() -> Result<()> {
    let path = directory().with_file_name("previous").join("recording.pcapng");
    let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let reader = Reader::new(&*bytes)?;
    let header = reader.header();
    ensure!(header.protocol == PROTOCOL_VERSION - 1, "it is of protocol {}", header.protocol);
    if let Some(warning) = header.foreign() {
        bail!("{warning}");
    }
    let (finished, damage) = tell(&bytes)?;
    if let Some(damage) = damage {
        bail!("{damage}");
    }
    let lines: Vec<serde_json::Value> = finished.lines().map(schema::parse).collect::<Result<_>>()?;
    let paths: Vec<_> = lines.iter().filter(|line| line["type"] == "path").collect();
    ensure!(paths.len() == 2, "a request and its reply are two paths:\n{finished}");
    for path in paths {
        ensure!(path["verdict"] == "delivered" && path["from"]["pod"].is_string(), "{path}");
    }
    let summary = lines.iter().find(|line| line["type"] == "summary").context("no summary")?;
    ensure!(summary["complete"] == true, "{summary}");
    Ok(())
}

fn left_out(name: &str) -> Result<()> {
    let bytes = fs::read(recording(name)).with_context(|| format!("reading the recording {name}"))?;
    lossy::says_less(&bytes)
}

/// Compares the output with the expected one.
fn compare(name: &str, output: &str, finished: &str) -> Result<()> {
    let expectation = recording(name).with_extension(output);
    if std::env::var_os("PODTRACE_BLESS").is_some() {
        fs::write(&expectation, finished)?;
    }
    let expected = fs::read_to_string(&expectation)
        .with_context(|| format!("reading {}; PODTRACE_BLESS=1 writes it", expectation.display()))?;
    ensure!(finished == expected, "expected:\n{expected}\ntold:\n{finished}");
    Ok(())
}

fn rendered(name: &str, output: &str, render: Render) -> Result<()> {
    let bytes = fs::read(recording(name)).with_context(|| format!("reading the recording {name}"))?;
    compare(name, output, &render(&bytes)?)
}

/// On a terminal of 80 columns, with what is alike folded.
fn text(recording: &[u8]) -> Result<String> {
    let view = View { width: 80, ..View::default() };
    into_text(recording, |out| Box::new(Text::new(StripStream::new(out)).with(view)))
}

/// Every path with all its hops.
fn wide(recording: &[u8]) -> Result<String> {
    let view = View { paths: Paths::All, ..View::default() };
    into_text(recording, |out| Box::new(Text::wide(StripStream::new(out)).with(view)))
}

/// The data of the page, with a line of its own for every hop.
fn page(recording: &[u8]) -> Result<String> {
    let mut out = Vec::new();
    replay(Reader::new(recording)?, ReplayOptions::default(), &mut Html::begin(&mut out, "")?)?;
    let page = String::from_utf8(out).context("the page is no text")?;
    let elements =
        page.lines().filter_map(|line| line.strip_prefix("<script type=\"application/json\" class=\""));
    let mut data = String::new();
    for element in elements {
        let (class, json) = element.split_once("\">").context("an element without data")?;
        let json = json.strip_suffix("</script>").context("an element without an end")?;
        if class != "trace" {
            data.push_str(&format!("{class} {}\n", json.replace("{\"node\":", "\n  {\"node\":")));
        }
    }
    Ok(data)
}

fn into_text(recording: &[u8], report: impl FnOnce(&mut Vec<u8>) -> Box<dyn Report + '_>) -> Result<String> {
    let mut out = Vec::new();
    replay(Reader::new(recording)?, ReplayOptions::default(), &mut *report(&mut out))?;
    String::from_utf8(out).context("its output is not UTF-8")
}

/// Runs the scenario and keeps what it recorded.
fn record(name: &str, scenario: &Scenario) -> Result<()> {
    let path = recording(name);
    fs::create_dir_all(directory())?;
    let finished =
        scenario.run(name, scenario.rules.first().copied(), env!("CARGO_BIN_EXE_traffic"), &path)?;
    fs::write(path.with_extension("json"), finished.stdout)?;
    Ok(())
}

/// A truncated recording is shown as far as it goes, or rejected in one line; it never looks complete.
fn cut_off(name: &str) -> Result<()> {
    let bytes = fs::read(recording(name)).with_context(|| format!("reading the recording {name}"))?;
    for end in (0..bytes.len()).step_by(CUT) {
        match tell(&bytes[..end]) {
            Ok((finished, damage)) => {
                ensure!(damage.is_some(), "cut off at {end}, and nothing is said of it");
                let summary = schema::parse(finished.lines().last().context("nothing was reported")?)?;
                ensure!(summary["complete"] == false, "cut off at {end}, and it looks whole");
            }
            Err(error) => {
                let line = format!("{error:#}");
                ensure!(!line.is_empty() && !line.contains('\n'), "cut off at {end}: {line}");
            }
        }
    }
    Ok(())
}

/// What a recording's bytes tell, and what is missing of it.
fn tell(bytes: &[u8]) -> Result<(String, Option<String>)> {
    let mut finished = Vec::new();
    let Replayed { damage, .. } =
        replay(Reader::new(bytes)?, ReplayOptions::default(), &mut Json::new(&mut finished))?;
    Ok((String::from_utf8(finished).context("its output is not UTF-8")?, damage))
}

/// Every file there belongs to one of these.
fn nothing_left_over(names: &[String]) -> Result<()> {
    for entry in directory().read_dir().context("reading the recordings' directory")? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let (name, output) = name.split_once('.').unwrap_or_default();
        let known = output == "pcapng" || output == "json" || OUTPUTS.iter().any(|known| known.0 == output);
        ensure!(names.iter().any(|known| known == name) && known, "{} is nobody's", path.display());
    }
    Ok(())
}
