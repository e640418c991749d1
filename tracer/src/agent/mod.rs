//! One node's hop events as a stream of frames, and the ways to reach a node.

pub mod frame;
