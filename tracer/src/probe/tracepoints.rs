//! Attaches to the kernel's tracepoints: where packets are dropped or freed, and where they leave a device's queue.

use anyhow::{Context as _, Result};
use aya::{Ebpf, programs::RawTracePoint};
use podtrace_protocol::frame::{HookState, Mechanism};

use super::{
    attached::{program, verified_instructions},
    btf::Btf,
    verifier::verifier_error,
};

/// Attaches to `kfree_skb`, which reports dropped packets. `missing` are struct members without which the program
/// cannot read a packet.
pub(super) fn attach_drops(ebpf: &mut Ebpf, btf: &Btf<'_>, missing: &[String]) -> HookState {
    if !missing.is_empty() {
        let note = format!("drops are not reported: this kernel's BTF has no {}", missing.join(", "));
        return HookState { note: Some(note), ..HookState::absent("tp:kfree_skb") };
    }
    // The verifier rejects a program that reads an argument the tracepoint does not have.
    let has_reason = btf.tracepoint_arguments("kfree_skb").is_some_and(|arguments| arguments >= 3);
    let name = if has_reason { "podtrace_drop" } else { "podtrace_drop_unreasoned" };
    let mut state = attach(ebpf, name, "kfree_skb", "drops are not reported");
    if state.mechanism.is_some() && !has_reason {
        state.note = Some("no drop reasons before Linux 5.17".to_owned());
    }
    state
}

/// Attaches to `net_dev_start_xmit`, which every packet passes on its way from a device's queue to the driver.
pub(super) fn attach_queues(ebpf: &mut Ebpf) -> HookState {
    attach(ebpf, "podtrace_queued", "net_dev_start_xmit", "time in queues is not reported")
}

/// Attaches to `consume_skb`, at which the identities of delivered and sent packets end. Without it only the fingerprint
/// distinguishes a packet from the next one in the same memory.
pub(super) fn attach_frees(ebpf: &mut Ebpf) -> HookState {
    attach(ebpf, "podtrace_consumed", "consume_skb", "packets that are alike may be taken for one another")
}

fn attach(ebpf: &mut Ebpf, name: &str, tracepoint: &str, consequence: &str) -> HookState {
    let state = HookState::absent(&format!("tp:{tracepoint}"));
    match load_and_attach(ebpf, name, tracepoint) {
        Ok(instructions) => HookState { mechanism: Some(Mechanism::RawTracepoint), instructions, ..state },
        Err(error) => HookState { note: Some(format!("{consequence}: {error:#}")), ..state },
    }
}

/// Returns the number of instructions that the verifier processed. The object keeps the link.
fn load_and_attach(ebpf: &mut Ebpf, name: &str, tracepoint: &str) -> Result<Option<u32>> {
    let program: &mut RawTracePoint = program(ebpf, name)?;
    program.load().map_err(verifier_error)?;
    program.attach(tracepoint).with_context(|| format!("attaching to the tracepoint {tracepoint}"))?;
    Ok(ebpf.program(name).and_then(verified_instructions))
}
