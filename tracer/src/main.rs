//! The binary `podtrace`: the library, and the eBPF programs.

use std::process::ExitCode;

fn main() -> ExitCode {
    podtrace::probe::embedded(aya::include_bytes_aligned!(env!("PODTRACE_EBPF_OBJECT")));
    podtrace::cli::main()
}
