//! The variants of the fault suite that are right today: none of them may get worse.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, bail};
use libtest_mimic::Trial;
use podtrace_tests::fault::score::{Outcome, Recorded};
use podtrace_tests::fault::{claims, data, suite as faults, table};
use podtrace_tests::{need, suite};

fn main() -> ExitCode {
    suite::run_if(trials())
}

/// One variant a kind, the first that holds: all of them would take too long.
fn trials() -> Result<Vec<Trial>> {
    let recorded = Recorded::load()?;
    let claims = Arc::new(claims::all()?);
    let mut trials = Vec::new();
    let mut before = String::new();
    for variant in data::variants()? {
        if variant.kind == before || !recorded.holds(&variant.name) {
            continue;
        }
        before.clone_from(&variant.kind);
        let missing = need::missing(&variant.what.needs);
        let (claims, variant) = (Arc::clone(&claims), Arc::new(variant));
        trials.push(suite::unless(missing, variant.name.clone(), move || {
            let (run, said) = faults::one(&variant, &claims, env!("CARGO_BIN_EXE_traffic"));
            match &run.outcome {
                Outcome::Judged(judgement) if judgement.is_right() => Ok(()),
                Outcome::Skipped { .. } => Ok(()),
                _ => bail!("{}\n{}", table::line(&run), said.map(|said| said.text).unwrap_or_default()),
            }
        }));
    }
    Ok(trials)
}
