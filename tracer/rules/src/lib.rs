//! A node's packet filter, and which of its rules translated or dropped a packet.
//!
//! No hook of the kernel reports the rule that a packet met. But a trace knows the packet before and after, and a listing
//! has all rules: this crate finds the rule that can have made the one out of the other, or says which ones can.
//!
//! 1. [`iptables`] and [`nft`] parse what `iptables-save` and `nft -j list ruleset` print into the [`model`]. What they do
//!    not understand is kept as unknown.
//! 2. [`keep()`] reduces it to what fits into one frame from the agent to the tracer.
//! 3. [`Finder`] answers questions ([`Translation`], [`Loss`]) with an [`Attribution`]. It follows the packet through the
//!    chains ([`walk`]); each rule matches, does not, or may ([`evaluate`]). If several rules can have done it, the answer
//!    says how many and what they have in common.
//!
//! Limits: only rules of the node's own network namespace, at the time of reading. What depends on chance, rates or sets
//! that change leaves several candidates.
//!
//! # Examples
//!
//! ```
//! use podtrace_rules::{Family, Finder, Hook, Loss, Packet, Rules, iptables};
//!
//! let listing = "\
//! *filter
//! :FORWARD ACCEPT [0:0]
//! -A FORWARD -s 10.42.0.66/32 -p tcp -m tcp --dport 22 -m comment --comment \"no ssh\" -j DROP
//! COMMIT
//! ";
//! let tables = iptables::parse(listing, Family::Ip);
//! let finder = Finder::new(Rules { tables, ..Rules::default() });
//!
//! let packet = Packet {
//!     source: [10, 42, 0, 66].into(),
//!     destination: [10, 42, 1, 10].into(),
//!     protocol: 6,
//!     source_port: Some(40_000),
//!     destination_port: Some(22),
//! };
//! let rule = finder.dropped(&Loss { packet, ..Loss::at(Hook::Forward) }).expect("a rule that drops it");
//! assert_eq!(rule.to_string(), "iptables filter: FORWARD (“no ssh”)");
//! assert!(rule.certain);
//!
//! let http = Packet { destination_port: Some(80), ..packet };
//! assert_eq!(finder.dropped(&Loss { packet: http, ..Loss::at(Hook::Forward) }), None);
//! ```

mod attribution;
mod evaluate;
mod find;
mod index;
pub mod iptables;
mod keep;
mod mark;
mod model;
pub mod nft;
mod protocol;
mod question;
mod service;
#[cfg(test)]
mod tests;
mod walk;

pub use attribution::{Attribution, Kind};
pub use find::Finder;
pub use keep::{BUDGET, keep};
pub use model::{
    Action, Base, Chain, Element, Elements, Family, Field, Framework, Gap, Hook, Marking, Match, Nat, Range,
    Rule, Rules, Set, Table,
};
pub use question::{End, Entered, Loss, Packet, Translation};
