//! One node's hop events as a stream of frames, and the ways to reach a node.

pub mod clock;
pub mod conntrack;
mod idle;
mod serve;
mod traffic;
pub mod transport;

pub use idle::idle;
pub use serve::serve;
