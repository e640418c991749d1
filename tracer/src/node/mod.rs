//! What a node's kernel and files say of its networking: the thin part that goes and looks.

pub mod rules;
pub mod topology;
