//! What became of the drops that the kernels reported.

use serde::{Deserialize, Serialize};

/// The drops that the kernels reported of matching packets, by what they mean.
///
/// A packet counts once for each time that a kernel dropped it, or a copy or piece of it: `seen` is the sum of the others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropFates {
    /// All of them.
    pub seen: u64,
    /// Those of packets that did not arrive.
    pub fatal: u64,
    /// Those of packets that belong to no path, or whose path had no end when tracing stopped.
    pub unexplained: u64,
    /// Those that a healthy network has, the most frequent first.
    pub harmless: Vec<HarmlessDrop>,
}

/// Drops that took nothing from anybody, of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HarmlessDrop {
    /// What the packet was, in words: "a copy that a bridge flooded".
    pub what: String,
    /// The kernel's reason, on kernels that give one.
    pub reason: Option<String>,
    /// The kernel function that freed it.
    pub location: Option<String>,
    /// How many.
    pub count: u64,
}

impl DropFates {
    /// How many are harmless.
    #[must_use]
    pub fn harmless(&self) -> u64 {
        self.harmless.iter().map(|kind| kind.count).sum()
    }
}
