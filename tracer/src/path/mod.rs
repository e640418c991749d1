//! WHICH observations are the same packet: identity on a node, joining across nodes, tunnels, clocks, verdicts.
//! Pure functions and state, no I/O: what comes in is frames, what goes out is finished paths.

mod model;

pub use model::{
    Action, Direction, Drop, End, EventCounts, Evidence, FlowRef, Hop, Nat, NatKind, Outer, Path, Point,
    Protocol, RouteTaken, Summary, Tuple, Verdict, VerdictCounts,
};
