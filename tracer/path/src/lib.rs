//! WHICH observations are the same packet: identity on a node, joining across nodes, tunnels, clocks, verdicts.
//! Pure functions and state, no I/O: what comes in is frames, what goes out is finished paths.

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
