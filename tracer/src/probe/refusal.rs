//! What the kernel says when it will not have a program.

use anyhow::anyhow;
use aya::programs::ProgramError;

/// Lines of the verifier's log that are shown: the last ones say why.
const LINES: usize = 12;

/// The kernel's refusal with the last lines of the verifier's log, and the root of any other error.
pub(super) fn refused(error: ProgramError) -> anyhow::Error {
    if let ProgramError::LoadError { io_error, verifier_log } = &error {
        let log = verifier_log.to_string();
        let lines: Vec<_> = log.lines().collect();
        let end = lines[lines.len().saturating_sub(LINES)..].join("\n");
        let hint = match io_error.raw_os_error() {
            Some(nix::libc::EPERM) => "; podtrace needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN, or root",
            _ => "",
        };
        let end = if end.trim().is_empty() { String::new() } else { format!("\n{end}") };
        return anyhow!("the kernel refused a program: {io_error}{hint}{end}");
    }
    anyhow!(error).context("loading a kernel program")
}
