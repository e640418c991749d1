//! Runs `scenarios/*.yaml`, each in a lab of its own.

use std::process::ExitCode;

use podtrace_tests::{scenario, suite};

fn main() -> ExitCode {
    let scenarios = match scenario::all() {
        Ok(scenarios) => scenarios,
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::FAILURE;
        }
    };
    let trials = scenarios.into_iter().map(|(name, scenario)| {
        suite::trial(name.clone(), &scenario.needs.clone(), move || {
            scenario.run(&name, env!("CARGO_BIN_EXE_traffic"), &[]).map(|_| ())
        })
    });
    suite::run(trials.collect())
}
