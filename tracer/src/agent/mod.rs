//! One node's hop events as a stream of frames, and the ways to reach a node.

pub mod codec;
pub mod frame;

#[cfg(target_os = "linux")]
pub mod clock;
#[cfg(target_os = "linux")]
pub mod conntrack;
#[cfg(target_os = "linux")]
mod idle;
#[cfg(target_os = "linux")]
mod serve;
#[cfg(target_os = "linux")]
mod traffic;
#[cfg(target_os = "linux")]
pub mod transport;

#[cfg(target_os = "linux")]
pub use idle::idle;
#[cfg(target_os = "linux")]
pub use serve::serve;
