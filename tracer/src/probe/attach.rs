//! Attaching taps: tcx where the kernel has it (6.6), else a filter on a clsact qdisc.
//!
//! A tcx link dies with the process that holds it. A clsact filter does not, so it is entered in the [`Ledger`]
//! first.

use anyhow::{Context as _, Result, anyhow};
use aya::programs::{
    LinkOrder, SchedClassifier, TcAttachType,
    tc::{NlOptions, SchedClassifierLink, TcAttachOptions},
};

use super::ledger::Ledger;
use super::taps::{Tap, TapSide};

/// Names of the tc programs, by which their filters are recognised.
pub(super) const TC_PROGRAMS: [&str; 4] =
    ["podtrace_entry", "podtrace_ingress", "podtrace_egress", "podtrace_exit"];

/// Threads that detach at the same time.
const DETACHERS: usize = 16;

/// Which way of attaching tc programs is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TcMode {
    /// tcx, falling back to clsact.
    #[default]
    Auto,
    /// Only tcx.
    Tcx,
    /// Only clsact.
    Clsact,
}

impl TcMode {
    /// From the environment variable `PODTRACE_TC`: `tcx` or `clsact`, else automatic.
    #[must_use]
    pub fn from_env() -> Self {
        match std::env::var("PODTRACE_TC").as_deref() {
            Ok("tcx") => Self::Tcx,
            Ok("clsact") => Self::Clsact,
            _ => Self::Auto,
        }
    }
}

/// How one tap was attached.
pub(super) struct Attachment {
    pub(super) how: &'static str,
    pub(super) note: Option<String>,
    /// Detaches when it is dropped.
    pub(super) link: SchedClassifierLink,
}

/// Attaches one tap.
pub(super) fn attach(
    program: &mut SchedClassifier,
    tap: &Tap,
    mode: TcMode,
    ledger: &mut Ledger,
) -> Result<Attachment> {
    let mut note = None;
    if mode != TcMode::Clsact {
        // First in line: a program before ours could end the chain, and its packets would be missing.
        let options = TcAttachOptions::TcxOrder(LinkOrder::first());
        match program.attach_with_options(&tap.device, attach_type(tap.side), options) {
            Ok(link) => return Ok(Attachment { how: "tcx", note: None, link: program.take_link(link)? }),
            Err(error) if mode == TcMode::Tcx => {
                return Err(anyhow!(error).context(format!("attaching a tcx program to {}", tap.device)));
            }
            Err(error) => note = Some(format!("tcx comes with Linux 6.6; here: {}", root_cause(&error))),
        }
    }
    ledger.prepare(&tap.device)?;
    let options = TcAttachOptions::Netlink(NlOptions { priority: 1, ..NlOptions::default() });
    let link = program
        .attach_with_options(&tap.device, attach_type(tap.side), options)
        .with_context(|| format!("attaching a tc filter to {} {}", tap.device, tap.side.point()))?;
    Ok(Attachment { how: "clsact", note, link: program.take_link(link)? })
}

/// Detaches all at once: the kernel lets each one wait until no CPU is in the program any more (some 20 ms), and
/// waiting together costs hardly more than waiting once.
pub(super) fn detach<Link: Send>(mut links: Vec<Link>) {
    let share = links.len().div_ceil(DETACHERS);
    std::thread::scope(|scope| {
        while !links.is_empty() {
            let share = links.split_off(links.len().saturating_sub(share));
            scope.spawn(|| drop(share));
        }
    });
}

fn attach_type(side: TapSide) -> TcAttachType {
    match side {
        TapSide::Ingress => TcAttachType::Ingress,
        TapSide::Egress => TcAttachType::Egress,
    }
}

pub(super) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
