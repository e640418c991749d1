//! What the kernel's verifier says when it rejects a program.

use anyhow::anyhow;
use aya::programs::ProgramError;

/// Lines of the verifier's log that are shown: the last ones give the reason.
const LINES: usize = 3;

/// Beginnings of the lines that only say how long verification took and how much it needed.
const STATISTICS: [&str; 6] =
    ["verification time", "stack depth", "processed ", "max_states_per_insn", "mark_read", "subprog "];

/// The error of a rejected program with the last lines of the verifier's log; any other error as it is.
pub(super) fn verifier_error(error: ProgramError) -> anyhow::Error {
    let ProgramError::LoadError { io_error, verifier_log } = &error else {
        return anyhow!(error).context("loading an eBPF program");
    };
    let hint = match io_error.raw_os_error() {
        Some(nix::libc::EPERM) => "; podtrace needs root, or CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN",
        _ => "",
    };
    let reason = match reason(&verifier_log.to_string()) {
        none if none.is_empty() => none,
        reason => format!(": {reason}"),
    };
    anyhow!("the kernel rejected a program: {io_error}{hint}{reason}")
}

/// The lines of a verifier's log that give the reason, joined into one.
fn reason(log: &str) -> String {
    let is_statistics = |line: &str| STATISTICS.iter().any(|start| line.starts_with(start));
    let mut lines: Vec<_> =
        log.lines().map(str::trim).filter(|line| !line.is_empty() && !is_statistics(line)).collect();
    lines.split_off(lines.len().saturating_sub(LINES)).join(" / ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_leaves_out_the_statistics() {
        let log = "func#0 @0\n0: R1=ctx()\n; let x = y;\n30: (0f) r6 += r1\n\ndereference of modified ctx ptr\n\
                   verification time 5 usec\nstack depth 0+0\nprocessed 12 insns (limit 1000000)\n";
        assert_eq!(reason(log), "; let x = y; / 30: (0f) r6 += r1 / dereference of modified ctx ptr");
        assert_eq!(reason(""), "");
    }
}
