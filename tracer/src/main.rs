//! The binary `podtrace`; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    podtrace::cli::main()
}
