//! Attaches tc programs to devices: by tcx where the kernel has it (6.6), otherwise as a filter on a clsact qdisc.
//!
//! The kernel removes a tcx link together with the process that holds it. It keeps a clsact filter, so the device is
//! recorded in the [`Ledger`] before it gets one.

use anyhow::{Context as _, Result, anyhow, ensure};
use aya::programs::{
    LinkOrder, SchedClassifier, TcAttachType,
    tc::{NlOptions, SchedClassifierLink, TcAttachOptions},
};
use podtrace_protocol::frame::Mechanism;

use super::clsact;
use super::ledger::Ledger;
use super::taps::{Tap, TapSide};

/// Threads that detach at the same time.
const DETACHERS: usize = 16;

/// Which mechanism attaches tc programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TcMode {
    /// tcx, or clsact if the kernel has no tcx.
    #[default]
    Auto,
    /// Only tcx.
    Tcx,
    /// Only clsact.
    Clsact,
}

impl TcMode {
    /// From the environment variable `PODTRACE_TC`: `tcx` or `clsact`, otherwise automatic.
    #[must_use]
    pub fn from_env() -> Self {
        match std::env::var("PODTRACE_TC").as_deref() {
            Ok("tcx") => Self::Tcx,
            Ok("clsact") => Self::Clsact,
            _ => Self::Auto,
        }
    }
}

/// An attached tap.
pub(super) struct Attachment {
    pub(super) how: Mechanism,
    /// Why it is not attached by tcx.
    pub(super) note: Option<String>,
    /// Detaches when it is dropped.
    pub(super) link: SchedClassifierLink,
}

/// Attaches a loaded program to one side of a device.
pub(super) fn attach(
    program: &mut SchedClassifier,
    tap: &Tap,
    mode: TcMode,
    ledger: &mut Ledger,
) -> Result<Attachment> {
    let mut note = None;
    if mode != TcMode::Clsact {
        // First in the chain: a program before ours could end it, and we would miss the packet.
        let options = TcAttachOptions::TcxOrder(LinkOrder::first());
        match program.attach_with_options(&tap.device, attach_type(tap.side), options) {
            Ok(link) => {
                return Ok(Attachment { how: Mechanism::Tcx, note: None, link: program.take_link(link)? });
            }
            Err(error) if mode == TcMode::Tcx => {
                return Err(anyhow!(error).context(format!("attaching a tcx program to {}", tap.device)));
            }
            Err(error) => note = Some(format!("no tcx before Linux 6.6; here: {}", root_cause(&error))),
        }
    }
    ledger.record_and_add_qdisc(&tap.device)?;
    ensure!(
        tap.side == TapSide::Ingress || !clsact::is_ingress_only(&tap.device),
        "another program's ingress qdisc on {} has no egress side",
        tap.device
    );
    let options = TcAttachOptions::Netlink(NlOptions { priority: 1, ..NlOptions::default() });
    let link = program
        .attach_with_options(&tap.device, attach_type(tap.side), options)
        .with_context(|| format!("attaching a tc filter to {} {}", tap.device, tap.side.point()))?;
    Ok(Attachment { how: Mechanism::Clsact, note, link: program.take_link(link)? })
}

/// Detaches all links at once. The kernel makes each one wait until no CPU runs the program any more (some 20 ms);
/// waiting in parallel takes hardly longer than waiting once.
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
