//! By WHICH RULE: a node's packet filter, and which of its rules translated or dropped a packet.
//!
//! [`iptables`] and [`nft`] turn what the programs of the same names print into [`model`]: plain data that travels from
//! the agent to the tracer in one frame, and into recordings. [`Finder`] answers questions about it: what a packet was
//! before and after is known from the trace, and so it is only asked which rule can have made that of it. [`walk`] goes
//! the way of the packet through the chains, with [`evaluate`] telling whether a rule applies: yes, no, or unknown.
//! [`keep()`] leaves out what does not matter.

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
