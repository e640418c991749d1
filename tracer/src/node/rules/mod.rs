//! Reads a node's packet filter, by `nft` and `iptables-save`.

mod read;
mod run;

pub use read::read;
