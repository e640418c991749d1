//! Runs scenarios of `networks/scenarios` on every network, each in a lab of its own: some, or all with the variable
//! `PODTRACE_TEST_NETWORKS`. With `PODTRACE_NETWORKS_DOCS`, writes what came of them into the table of that file.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use libtest_mimic::Trial;
use podtrace_tests::kernel::Series;
use podtrace_tests::network::{self, Case};
use podtrace_tests::scenario::Rules;
use podtrace_tests::{need, suite};

/// Environment variable with the file whose table is written.
const DOCS: &str = "PODTRACE_NETWORKS_DOCS";

/// Environment variable by which `all` scenarios are run, not only those that show a network's own way most.
const WHICH: &str = "PODTRACE_TEST_NETWORKS";

/// The scenarios that are run every time: they pass all that a network has of its own. All of them take minutes.
const ALWAYS: [&str; 3] = ["ping-other-node", "nodeport", "service"];

/// The lines around the table in that file.
const MARKS: [&str; 2] = ["<!-- table -->\n", "<!-- end of table -->\n"];

/// The servers in pods, which scenarios need, are there where Services are.
const RULES: Rules = Rules::Nft;

/// What came of the cases, by network and scenario.
type Outcomes = BTreeMap<(String, String), String>;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let (mut cases, about) = network::cases()?;
    if std::env::var(WHICH).ok().as_deref() != Some("all") {
        cases.retain(|case| ALWAYS.contains(&case.name.as_str()));
    }
    let outcomes = Arc::new(Mutex::new(Outcomes::new()));
    let trials = cases.into_iter().map(|case| trial(case, Arc::clone(&outcomes))).collect();
    let code = suite::run(trials);
    if let Some(path) = std::env::var_os(DOCS) {
        let outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        write(Path::new(&path), &table(&outcomes, &about)?)?;
    }
    Ok(code)
}

fn trial(case: Case, outcomes: Arc<Mutex<Outcomes>>) -> Trial {
    let Case { network, name, scenario } = case;
    let trial = format!("{network}/{name}");
    let keep = move |outcome: String| {
        outcomes.lock().unwrap_or_else(PoisonError::into_inner).insert((network, name), outcome);
    };
    let scenario = match scenario {
        Ok(scenario) => scenario,
        Err(why) => {
            keep(why.clone());
            return suite::unless(Some(why), trial, || Ok(()));
        }
    };
    let mut needs = scenario.needs.clone();
    needs.push(RULES.program().to_owned());
    if let Some(missing) = need::missing(&needs) {
        keep(missing.clone());
        return suite::unless(Some(missing), trial, || Ok(()));
    }
    suite::trial(trial, &needs, move || {
        let directory = tempfile::tempdir().context("making a directory for the recording")?;
        let file = directory.path().join("trace.pcapng");
        let run = scenario.run("net", Some(RULES), env!("CARGO_BIN_EXE_traffic"), &file);
        keep(if run.is_ok() { "yes".to_owned() } else { "**no**".to_owned() });
        run.map(drop)
    })
}

/// Networks by scenarios, and what each scenario is.
fn table(outcomes: &Outcomes, about: &BTreeMap<String, String>) -> Result<String> {
    let mut text = format!("Last run: Linux {}.\n\n| network |", Series::running()?);
    let names: Vec<&String> = about.keys().collect();
    for name in &names {
        text += &format!(" {name} |");
    }
    text += &format!("\n| --- |{}\n", " --- |".repeat(names.len()));
    let mut networks: Vec<&String> = outcomes.keys().map(|(network, _)| network).collect();
    networks.dedup();
    for network in networks {
        text += &format!("| `{network}` |");
        for name in &names {
            let outcome = outcomes.get(&(network.clone(), (*name).clone()));
            text += &format!(" {} |", outcome.map_or("not run", String::as_str));
        }
        text.push('\n');
    }
    text.push('\n');
    for (name, about) in about {
        text += &format!("- {name}: {about}\n");
    }
    Ok(text)
}

fn write(path: &Path, table: &str) -> Result<()> {
    let old = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let [begin, end] = MARKS;
    let (before, rest) = old.split_once(begin).context("the file has no place for the table")?;
    let (_, after) = rest.split_once(end).context("the file's table has no end")?;
    let new = format!("{before}{begin}{table}{end}{after}");
    std::fs::write(path, new).with_context(|| format!("writing {}", path.display()))
}
