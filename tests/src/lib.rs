//! The harness of the tests on real packets: labs that go away, traces that are waited for, expectations as data.
//!
//! `tests/scenarios.rs` runs `scenarios/*.yaml`, `tests/behaviour/` is what does not fit into a data file, `tests/pair.rs`
//! traces between two virtual machines, `tests/cluster/` on a real Kubernetes. `tests/replay.rs` tells `recordings/` again
//! and `tests/page.rs` looks at their pages in a browser: neither needs root or packets.

pub mod api_server;
pub mod attached;
pub mod binary;
pub mod browser;
pub mod check;
pub mod cluster;
pub mod command;
pub mod conntrack;
pub mod expect;
pub mod fault;
pub mod hooks;
pub mod kernel;
pub mod lab;
pub mod lossy;
pub mod need;
pub mod network;
pub mod recorded;
pub mod scenario;
pub mod schema;
pub mod stacks;
pub mod suite;
pub mod trace;
pub mod wait;
