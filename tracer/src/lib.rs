//! podtrace shows, packet by packet and hop by hop, the way from one Kubernetes pod to another.
//!
//! The modules stand in the order in which a trace passes through them; `ARCHITECTURE.md` tells the whole story.
//! [`path`] and [`report`] need neither root nor Linux: live tracing and reading a recording differ only in
//! where the frames come from.

pub mod agent;
pub mod capture;
#[cfg(target_os = "linux")]
pub mod cli;
pub mod cluster;
pub mod diagnose;
pub mod escape;
pub mod expect;
pub mod filter;
pub mod hook;
#[cfg(target_os = "linux")]
pub mod lab;
#[cfg(target_os = "linux")]
pub mod netns;
pub mod path;
#[cfg(target_os = "linux")]
pub mod probe;
pub mod recording;
pub mod report;
pub mod rules;
#[cfg(target_os = "linux")]
pub mod session;
pub mod topology;
