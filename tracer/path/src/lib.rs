//! WHICH observations are the same packet: identity on a node, joining across nodes, tunnels, clocks, verdicts.
//! Pure functions and state, no I/O: what comes in is frames, what goes out is finished paths.
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
mod engine;
mod finish;
mod join;
mod model;
mod observation;
mod wire;
mod world;

pub use change::{Change, ChangeKind, Place, Update};
pub use engine::{Context, Engine};

pub use model::{
    Action, ConnState, ConnectionSeen, Direction, Drop, DropCause, End, EventCounts, Evidence, FlowRef, Hop,
    HopEvent, Nat, NatKind, Neighbour, Outer, Path, Point, Protocol, Resolution, RouteTaken, ServiceRef,
    Source, Summary, Translated, Tuple, Verdict, VerdictCounts, Via,
};
