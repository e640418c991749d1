//! What the kernel says when it will not have a program.

use anyhow::anyhow;
use aya::programs::ProgramError;

/// Lines of the verifier's log that are shown: the last ones say why.
const LINES: usize = 3;

/// How lines of the verifier's log begin that tell what it took, and nothing of why.
const STATISTICS: [&str; 6] =
    ["verification time", "stack depth", "processed ", "max_states_per_insn", "mark_read", "subprog "];

/// The kernel's refusal with the last lines of the verifier's log, and the root of any other error.
pub(super) fn refused(error: ProgramError) -> anyhow::Error {
    let ProgramError::LoadError { io_error, verifier_log } = &error else {
        return anyhow!(error).context("loading a kernel program");
    };
    let why = why(&verifier_log.to_string());
    let hint = match io_error.raw_os_error() {
        Some(nix::libc::EPERM) => "; podtrace needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN, or root",
        _ => "",
    };
    let why = if why.is_empty() { why } else { format!(": {why}") };
    anyhow!("the kernel refused a program: {io_error}{hint}{why}")
}

/// The lines of a verifier's log that say why, on one line.
fn why(log: &str) -> String {
    let is_statistics = |line: &str| STATISTICS.iter().any(|start| line.starts_with(start));
    let mut lines: Vec<_> =
        log.lines().map(str::trim).filter(|line| !line.is_empty() && !is_statistics(line)).collect();
    lines.split_off(lines.len().saturating_sub(LINES)).join(" / ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_told_without_the_statistics() {
        let log = "func#0 @0\n0: R1=ctx()\n; let x = y;\n30: (0f) r6 += r1\n\ndereference of modified ctx ptr\n\
                   verification time 5 usec\nstack depth 0+0\nprocessed 12 insns (limit 1000000)\n";
        assert_eq!(why(log), "; let x = y; / 30: (0f) r6 += r1 / dereference of modified ctx ptr");
        assert_eq!(why(""), "");
    }
}
