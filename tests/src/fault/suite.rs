//! Runs variants, some at a time.

use std::sync::Mutex;
use std::sync::PoisonError;

use anyhow::Result;

use super::claims::{self, Claim};
use super::data::Variant;
use super::judge::judge;
use super::run::{self, Said};
use super::score::{Outcome, Run};
use crate::{kernel, need};

/// Variants at a time: each has a lab and a busy tracer.
const AT_A_TIME: usize = 2;

/// Runs one variant and judges it; also what it said, if it got that far.
#[must_use]
pub fn one(variant: &Variant, claims: &[Claim], traffic: &str) -> (Run, Option<Said>) {
    if let Some(reason) = variant.what.guests.as_ref().filter(|_| !kernel::is_guest()) {
        return (Run::of(variant, Outcome::Skipped { reason: format!("needs a guest: {reason}") }), None);
    }
    if let Some(reason) = need::missing(&variant.what.needs) {
        return (Run::of(variant, Outcome::Skipped { reason }), None);
    }
    let broken = |error: &anyhow::Error| Outcome::Broken { reason: format!("{error:#}") };
    match run::run(variant, traffic) {
        Err(error) => (Run::of(variant, broken(&error)), None),
        Ok(said) => {
            let outcome = judge(variant, &said, claims);
            let outcome = outcome.map_or_else(|error| broken(&error), Outcome::Judged);
            (Run::of(variant, outcome), Some(said))
        }
    }
}

/// Runs variants; `each` is called with every run as it ends. The runs are in the order of the variants.
///
/// # Errors
///
/// If the claims cannot be read.
pub fn all(
    variants: &[Variant],
    traffic: &str,
    each: impl Fn(&Run, Option<&Said>) + Send + Sync,
) -> Result<Vec<Run>> {
    let claims = claims::all()?;
    let next = Mutex::new(0..variants.len());
    let runs = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        // Two tracers that begin together on emulated CPUs keep each other from being ready in time.
        for _ in 0..if kernel::is_guest() { 1 } else { AT_A_TIME } {
            scope.spawn(|| {
                loop {
                    let number = next.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some(number) = number else { break };
                    let (run, said) = one(&variants[number], &claims, traffic);
                    each(&run, said.as_ref());
                    runs.lock().unwrap_or_else(PoisonError::into_inner).push((number, run));
                }
            });
        }
    });
    let mut runs = runs.into_inner().unwrap_or_else(PoisonError::into_inner);
    runs.sort_by_key(|(number, _)| *number);
    Ok(runs.into_iter().map(|(_, run)| run).collect())
}
