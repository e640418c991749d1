//! `hooks RECORDING`: tells the hooks of a recorded trace, one JSON object a line.

use std::path::Path;
use std::process::ExitCode;

use podtrace_tests::hooks;

fn main() -> ExitCode {
    let Some(recording) = std::env::args_os().nth(1) else {
        eprintln!("usage: hooks RECORDING");
        return ExitCode::from(2);
    };
    match hooks::of_recording(Path::new(&recording)) {
        Ok(hooks) => {
            for hook in hooks {
                println!("{}{hook}", hooks::LINE);
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("hooks: {error:#}");
            ExitCode::FAILURE
        }
    }
}
