//! Loads podtrace's eBPF programs into one node's kernel and attaches them.
//!
//! Input: a filter (which packets), the node's topology (which devices), the kernel's BTF (where its structs keep
//! their members). Output: [`AttachedPrograms`], which detaches everything when it is dropped, and the ring buffer that the
//! programs write events into.
//!
//! 1. [`Btf`] reads the kernel's type information. [`mod@offsets`] and `prototypes` take from it the struct offsets and
//!    argument positions that the programs need: rustc emits no CO-RE relocations.
//! 2. `filter` translates the user's filter into constants and map entries; `object` holds the compiled programs.
//! 3. `taps` decides which devices get a tc program, and which of the four. `tc` attaches them: tcx on kernels that have
//!    it (6.6), a filter on a clsact qdisc elsewhere.
//! 4. `tracepoints` attaches to dropped and queued packets, `functions` to the network stack: fentry where possible,
//!    otherwise a kprobe.
//! 5. Every attempt yields a `HookState`. Only missing BTF, a rejected tc program or a failing map ends the trace:
//!    without any other hook, later stages infer its hops or leave details out.
//!
//! Limits: the kernel removes tcx links, tracepoints, kprobes and fentry links with the process. clsact filters stay,
//! so `ledger` records them for the next start. The programs look at one VXLAN port. The map of addresses has four times the
//! room that the filter needs at first, at least 16,384; an update that needs more fails.

mod attached;
mod btf;
mod clsact;
mod filter;
mod functions;
mod ledger;
mod maps;
mod object;
mod offsets;
mod prototypes;
mod stats;
mod symbols;
mod taps;
mod tc;
mod tracepoints;
mod verifier;

pub use attached::{AttachedPrograms, Settings};
pub use btf::{Btf, BtfError};
pub use ledger::needs_cleanup_before_exit;
pub use object::embedded;
pub use offsets::{drop_reasons, offsets};
pub use stats::{Counted, times};
pub use symbols::Symbols;
pub use taps::{Tap, TapSide, TcProgram, taps};
pub use tc::TcMode;
