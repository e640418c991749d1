//! podtrace shows, packet by packet and hop by hop, the way from one Kubernetes pod to another.
//!
//! This crate is what needs Linux: the command line, sessions, agents, eBPF programs, the lab and the readers of nodes
//! and clusters. What packets did is worked out in crates of their own, for any system; see `ARCHITECTURE.md`.

#[cfg(not(target_os = "linux"))]
compile_error!("podtrace runs on Linux; its crates for reading recordings build on any system");

/// Target of events that `-v` shows; see `detail!`.
const DETAIL: &str = "podtrace::detail";

/// One line for users who ask for details by `-v`.
macro_rules! detail {
    ($($text:tt)+) => { tracing::info!(target: crate::DETAIL, $($text)+) };
}

pub mod agent;
pub mod capture;
mod cgroup;
pub mod cli;
pub mod cluster;
pub mod files;
pub mod lab;
pub mod lock;
pub mod netns;
pub mod node;
pub mod priority;
pub mod probe;
pub mod run_directory;
pub mod session;
mod terminal;
pub mod top;
