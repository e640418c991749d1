//! By WHICH RULE: a node's packet filter, and which of its rules translated or dropped a packet.
//!
//! [`iptables`] and [`nft`] turn what the programs of the same names print into [`model`]: plain data that travels from
//! the agent to the tracer in one frame, and into recordings. [`Finder`] answers questions about it: what a packet was
//! before and after is known from the trace, and so it is only asked which rule can have made that of it. [`walk`] goes
//! the way of the packet through the chains, with [`evaluate`] telling whether a rule applies: yes, no, or unknown.
//! [`keep()`] leaves out what does not matter.
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
