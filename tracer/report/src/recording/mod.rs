//! Recordings: pcapng files with packets for Wireshark and tshark, and all frames of the agents for podtrace.
//! `docs/recording.md` describes the format.
//!
//! A packet is written when its path is finished, so that its comment can name path and hop; frames are written as they
//! arrive. Both have numbers by which a reader restores their order.
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
pub use order::Item;
pub use output::{Open, Recorder, Rotation, Target};
pub use reader::{Files, Reader};
pub use writer::Writer;
