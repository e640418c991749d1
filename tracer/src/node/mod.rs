//! Reads a node's networking from its kernel and files: the topology and the packet filter.

pub mod rules;
pub mod topology;
