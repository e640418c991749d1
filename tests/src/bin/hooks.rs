//! `hooks RECORDING`: tells the hooks of a recorded trace, one JSON object a line, and whether they keep to their budget
//! of instructions.

use std::path::Path;
use std::process::ExitCode;

use podtrace_tests::hooks;

fn main() -> ExitCode {
    let Some(recording) = std::env::args_os().nth(1) else {
        eprintln!("usage: hooks RECORDING");
        return ExitCode::from(2);
    };
    let told = hooks::of_recording(Path::new(&recording)).and_then(|hooks| {
        for hook in &hooks {
            println!("{}{hook}", hooks::LINE);
        }
        hooks::within_budget(&hooks)
    });
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hooks: {error:#}");
            ExitCode::FAILURE
        }
    }
}
