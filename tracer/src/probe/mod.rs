//! WHAT can be seen on a node: the hooks, the kernel's struct offsets, loading, attaching and detaching.

mod attach;
mod btf;
mod clsact;
mod ledger;
mod object;
mod offsets;
mod programs;
mod refusal;
mod stack;
mod symbols;
mod taps;

pub use attach::TcMode;
pub use btf::{Btf, BtfError};
pub use ledger::must_end_in_order;
pub use offsets::{drop_reasons, offsets};
pub use programs::{Settings, Tracer};
pub use symbols::Symbols;
pub use taps::{Tap, taps};
