//! The types that the tracer, its agents and recordings share: what is sent between them or stored.
//!
//! - [`frame`]: the messages between a tracer and an agent. Start here.
//! - [`codec`]: frames to bytes and back.
//! - [`record`]: the binary encoding of hop events inside an events frame.
//! - [`hook`]: the table of hooked kernel functions, and what each one means for a packet.
//! - [`topology`]: a node's namespaces, devices and routes.
//! - [`inventory`]: a cluster's nodes, pods and Services, and what users name as endpoints.
//!
//! Nothing here does I/O except for reading a frame from, or writing it to, a given stream, and loading a static
//! inventory from a file.

pub mod codec;
pub mod frame;
pub mod hook;
pub mod inventory;
mod limit;
pub mod record;
pub mod stats;
pub mod topology;
pub mod wire;
