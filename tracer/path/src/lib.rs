//! Joins the hop events of all nodes into the paths of packets.
//!
//! Frames of agents go in, finished paths come out. Pure functions and state, no I/O and no clock of its own.
//!
//! Rooms, in the order of their dependencies: each uses only those above it.
//!
//! | room | what it is |
//! | --- | --- |
//! | [`model`] | finished paths, as reports and JSON have them |
//! | [`change`], [`context`] | what is traced, and its changes |
//! | [`memory`] | the ceiling for what is held, and its costs |
//! | [`time`], [`node`] | types for numbers that are easily confused |
//! | [`world`] | what is known besides packets: nodes, devices, clocks, addresses, rules |
//! | [`observation`] | one kernel record, understood |
//! | [`label`] | names of packets |
//! | [`join`] | which observations are the same packet |
//! | [`finish`] | from a joined packet to its finished path |
//! | [`engine`] | frames in, finished paths out |
//!
//! # Examples
//!
//! ```
//! use podtrace_path::{Engine, Verdict};
//! use podtrace_report::recording::Reader;
//!
//! // A recording keeps the frames of all nodes in their order.
//! let mut recording = Reader::new(std::fs::File::open("../../tests/recordings/cross-node-ping.pcapng")?)?;
//! let mut engine = Engine::new(recording.header().context.clone());
//! let mut paths = Vec::new();
//! while let Some((node, frame)) = recording.next_frame() {
//!     match frame {
//!         Some(frame) => engine.ingest(node, &frame, &mut paths),
//!         None => engine.node_ended(node),
//!     }
//! }
//! let summary = engine.finish(&mut paths);
//!
//! assert!(summary.complete);
//! assert_eq!(paths.len(), 2, "an echo request and its reply");
//! assert!(paths.iter().all(|path| path.verdict == Verdict::Delivered));
//! assert_eq!(paths[0].hops.len(), 8);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod change;
mod context;
mod engine;
mod finish;
mod join;
mod label;
mod memory;
mod model;
mod node;
mod observation;
mod time;
mod world;

pub use change::{Change, ChangeKind, Place, Update};
pub use context::Context;
pub use engine::Engine;
pub use memory::{DEFAULT_MEMORY, LEAST_MEMORY};

pub use model::{
    Action, ConnState, ConnectionSeen, Direction, Drop, DropCause, DropFates, End, EventCounts, Evidence,
    FlowRef, Forged, HarmlessDrop, Hop, HopEvent, Nat, NatKind, Neighbour, Outer, Path, Point, Protocol,
    Reading, Resolution, RouteTaken, Sample, Segment, ServiceRef, Shed, Source, Summary, Translated, Tuple,
    Unwatched, Verdict, VerdictCounts, Via,
};
