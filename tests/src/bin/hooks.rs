//! `hooks RECORDING`: prints the hooks of a recorded trace, one JSON object per line, and whether their programs stay
//! within the budget of instructions.

use std::path::Path;
use std::process::ExitCode;

use podtrace_tests::hooks;

fn main() -> ExitCode {
    let Some(recording) = std::env::args_os().nth(1) else {
        eprintln!("usage: hooks RECORDING");
        return ExitCode::from(2);
    };
    let finished = hooks::of_recording(Path::new(&recording)).and_then(|hooks| {
        for hook in &hooks {
            println!("{}{hook}", hooks::LINE);
        }
        hooks::within_budget(&hooks)
    });
    match finished {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hooks: {error:#}");
            ExitCode::FAILURE
        }
    }
}
