//! Runs `scenarios/*.yaml`, each in a lab of its own. What each leaves in a file is read again, and looked at with
//! tshark.

use std::process::ExitCode;
use std::slice;
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result, bail};
use libtest_mimic::Trial;
use podtrace_tests::kernel::{self, Series};
use podtrace_tests::scenario::{Rules, Scenario};
use podtrace_tests::trace::Finished;
use podtrace_tests::{recorded, scenario, suite};
use tempfile::TempDir;

/// A scenario that is run once, by whichever of its trials comes first.
struct Run {
    name: String,
    rules: Option<Rules>,
    scenario: Arc<Scenario>,
    outcome: OnceLock<Result<Kept, String>>,
}

/// The output of a run, and the directory of the file that it left.
struct Kept {
    finished: Finished,
    directory: TempDir,
}

impl Run {
    fn outcome(&self) -> Result<&Kept> {
        let run = || {
            let directory = tempfile::tempdir().context("making a directory for what is written")?;
            let file = directory.path().join("trace.pcapng");
            let finished = self.scenario.run(&self.name, self.rules, env!("CARGO_BIN_EXE_traffic"), &file)?;
            Ok(Kept { finished, directory })
        };
        match self.outcome.get_or_init(|| run().map_err(|error: anyhow::Error| format!("{error:#}"))) {
            Ok(kept) => Ok(kept),
            Err(error) => bail!("{error}"),
        }
    }

    fn is_told_again(&self) -> Result<()> {
        let Kept { finished, directory } = self.outcome()?;
        recorded::tells_the_same(finished, &[&directory.path().join("trace.pcapng")])
    }

    fn is_shown_by_tshark(&self) -> Result<()> {
        let Kept { finished, directory } = self.outcome()?;
        let file = directory.path().join("trace.pcapng");
        let packets = recorded::packets(&file)?;
        recorded::agrees(finished, &packets)?;
        recorded::is_read_by_others(&file, packets.len())
    }
}

/// The runs of a scenario: one for each way of writing rules, or where kernels take turns, the one for this kernel. What
/// rules make a kernel do is the same, whoever wrote them.
fn runs((name, scenario): (String, Scenario), turn: Option<Series>) -> Vec<Run> {
    let scenario = Arc::new(scenario);
    let run = |name, rules| Run { name, rules, scenario: Arc::clone(&scenario), outcome: OnceLock::new() };
    let rules = scenario.rules.as_slice();
    let rules = match turn {
        Some(kernel) if !rules.is_empty() => slice::from_ref(&rules[kernel.minor() as usize % rules.len()]),
        _ => rules,
    };
    match rules {
        [] => vec![run(name, None)],
        rules => rules.iter().map(|rules| run(format!("{name}-{}", rules.name()), Some(*rules))).collect(),
    }
}

/// Environment variable with the share of the scenarios to run, of those that [`kernel::GUESTS`] chose: `0/2` and `1/2` are two
/// halves.
const SHARE: &str = "PODTRACE_TEST_SHARE";

/// Whether the scenario of this number is in the share.
fn is_in_share(share: &str, number: usize) -> Result<bool> {
    let parts = share.split_once('/').and_then(|(own, of)| Some((own.parse().ok()?, of.parse().ok()?)));
    let (own, of): (usize, usize) =
        parts.filter(|(own, of)| own < of).with_context(|| format!("{SHARE} is not such as 0/2: {share}"))?;
    Ok(number % of == own)
}

fn main() -> ExitCode {
    suite::run_if(trials())
}

fn trials() -> Result<Vec<Trial>> {
    // Only what differs from kernel to kernel: `all`, or `alternating` for one rule set a kernel.
    let guests = std::env::var(kernel::GUESTS).ok();
    let guests_only = guests.is_some();
    let turn = (guests.as_deref() == Some("alternating")).then(Series::running).transpose()?;
    let mut trials = Vec::new();
    let share = std::env::var(SHARE).unwrap_or_else(|_| "0/1".to_owned());
    let mut scenarios = Vec::new();
    for (number, scenario) in
        scenario::all()?.into_iter().filter(|(_, scenario)| scenario.guests || !guests_only).enumerate()
    {
        if is_in_share(&share, number)? {
            scenarios.push(scenario);
        }
    }
    for run in scenarios.into_iter().flat_map(|scenario| runs(scenario, turn)) {
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
    Ok(trials)
}
