//! What is kept of a trace: a pcapng file that other programs read for its packets, and podtrace for all that the
//! agents said. `docs/recording.md` tells what is where in it.
//!
//! Packets are written when their path is finished, so that they can say which hop of which path they are; the
//! agents' words are written as they come. Both carry numbers by which a reader puts them back in order.

mod block;
mod blocks;
mod entry;
mod hold;
mod interface;
mod order;
mod output;
mod part;
mod reader;
mod remark;
mod writer;

pub use entry::Header;
pub use order::Next;
pub use output::{Recorder, Rotation, Target};
pub use reader::{Files, Reader};
pub use writer::Writer;
