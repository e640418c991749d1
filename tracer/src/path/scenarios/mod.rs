//! What must come out of what happened, as scenes on two nodes.

mod changing;
mod endings;
mod headers;
mod order;
mod recorded;
mod stack;
mod streams;
mod translation;
mod ways;
