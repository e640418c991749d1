//! What is kept of a trace: a pcapng file that other programs read for its packets, and podtrace for all that the
//! agents said. `docs/recording.md` tells what is where in it.
//!
//! Packets are written when their path is finished, so that they can say which hop of which path they are; the
//! agents' words are written as they come. Both carry numbers by which a reader puts them back in order.
//!
//! # Examples
//!
//! ```
//! use podtrace_report::recording::Reader;
//!
//! let mut recording = Reader::new(std::fs::File::open("../../tests/recordings/cross-node-ping.pcapng")?)?;
//! assert_eq!(recording.header().context.nodes, ["node1", "node2"]);
//! // Frames of all nodes, in the order in which they arrived; without a frame, that node has ended.
//! let mut ended = [false; 2];
//! while let Some((node, frame)) = recording.next_frame() {
//!     ended[node] |= frame.is_none();
//! }
//! assert_eq!(ended, [true; 2]);
//! assert_eq!(recording.damage(), None);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

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
