//! Runs `scenarios/*.yaml`, each in a lab of its own. What each leaves in a file is read again, and looked at with
//! tshark.

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result, bail};
use podtrace_tests::scenario::{Rules, Scenario};
use podtrace_tests::trace::Told;
use podtrace_tests::{recorded, scenario, suite};
use tempfile::TempDir;

/// A scenario that is run once, by whichever of its trials comes first.
struct Run {
    name: String,
    rules: Option<Rules>,
    scenario: Arc<Scenario>,
    outcome: OnceLock<Result<Kept, String>>,
}

/// What a run told, and the directory of the file that it left.
struct Kept {
    told: Told,
    directory: TempDir,
}

impl Run {
    fn outcome(&self) -> Result<&Kept> {
        let run = || {
            let directory = tempfile::tempdir().context("making a directory for what is written")?;
            let file = directory.path().join("trace.pcapng");
            let told = self.scenario.run(&self.name, self.rules, env!("CARGO_BIN_EXE_traffic"), &file)?;
            Ok(Kept { told, directory })
        };
        match self.outcome.get_or_init(|| run().map_err(|error: anyhow::Error| format!("{error:#}"))) {
            Ok(kept) => Ok(kept),
            Err(error) => bail!("{error}"),
        }
    }

    fn is_told_again(&self) -> Result<()> {
        let Kept { told, directory } = self.outcome()?;
        recorded::tells_the_same(told, &[&directory.path().join("trace.pcapng")])
    }

    fn is_shown_by_tshark(&self) -> Result<()> {
        let Kept { told, directory } = self.outcome()?;
        recorded::agrees(told, &recorded::packets(&directory.path().join("trace.pcapng"))?)
    }
}

/// The runs of a scenario: one for each way of writing rules, or for the first of them. What rules make the kernel do is
/// the same, whoever wrote them.
fn runs((name, scenario): (String, Scenario), first_rules: bool) -> Vec<Run> {
    let scenario = Arc::new(scenario);
    let run = |name, rules| Run { name, rules, scenario: Arc::clone(&scenario), outcome: OnceLock::new() };
    match scenario.rules.as_slice() {
        [] => vec![run(name, None)],
        rules => rules
            .iter()
            .take(if first_rules { 1 } else { rules.len() })
            .map(|rules| run(format!("{name}-{}", rules.name()), Some(*rules)))
            .collect(),
    }
}

/// Environment variable by which only what differs from kernel to kernel is run.
const GUESTS: &str = "PODTRACE_TEST_GUESTS";

fn main() -> ExitCode {
    let scenarios = match scenario::all() {
        Ok(scenarios) => scenarios,
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::FAILURE;
        }
    };
    let guests_only = std::env::var_os(GUESTS).is_some();
    let mut trials = Vec::new();
    let compact = |(_, scenario): &(String, Scenario)| scenario.guests || !guests_only;
    let runs = scenarios.into_iter().filter(compact).flat_map(|scenario| runs(scenario, guests_only));
    for run in runs {
        let mut needs = run.scenario.needs.clone();
        needs.extend(run.rules.map(|rules| rules.program().to_owned()));
        let run = Arc::new(run);
        let own = Arc::clone(&run);
        trials.push(suite::trial(run.name.clone(), &needs, move || own.is_told_again()));
        if guests_only {
            // What tshark makes of a file has nothing to do with the kernel.
            continue;
        }
        needs.extend(recorded::TOOLS.map(str::to_owned));
        trials
            .push(suite::trial(format!("{}-in-tshark", run.name), &needs, move || run.is_shown_by_tshark()));
    }
    suite::run(trials)
}
