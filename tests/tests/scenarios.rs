//! Runs `scenarios/*.yaml`, each in a lab of its own.

use std::process::ExitCode;

use podtrace_tests::{scenario, suite};

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
    let chosen = scenarios.into_iter().filter(|(_, scenario)| scenario.guests || !guests_only);
    let trials = chosen.map(|(name, scenario)| {
        suite::trial(name.clone(), &scenario.needs.clone(), move || {
            scenario.run(&name, env!("CARGO_BIN_EXE_traffic"), &[]).map(|_| ())
        })
    });
    suite::run(trials.collect())
}
