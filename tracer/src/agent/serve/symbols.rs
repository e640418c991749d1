//! The kernel's symbols, read beside everything else.

use std::thread::JoinHandle;

use crate::probe::Symbols;

/// The kernel's symbols, read while the programs are attached: the first drop should not have to wait for them.
pub(super) enum LazySymbols {
    Reading(JoinHandle<Symbols>),
    Read(Symbols),
}

impl LazySymbols {
    pub(super) fn begin() -> Self {
        // Without symbols, drops show addresses.
        Self::Reading(std::thread::spawn(|| Symbols::read().unwrap_or_default()))
    }

    pub(super) fn name(&mut self, address: u64) -> Option<&str> {
        if let Self::Reading(_) = self
            && let Self::Reading(thread) = std::mem::replace(self, Self::Read(Symbols::default()))
        {
            *self = Self::Read(thread.join().unwrap_or_default());
        }
        match self {
            Self::Read(symbols) => symbols.name(address),
            Self::Reading(_) => None,
        }
    }
}
