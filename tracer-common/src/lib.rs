//! The ABI between podtrace's eBPF programs and its user side.
//!
//! Everything here crosses the boundary as bytes: fixed-width integers, explicit padding, no bool, no enum, no
//! reference. Sizes and offsets are asserted at compile time. [`ABI_VERSION`] changes with every change of layout or
//! meaning, and user space rejects an object of another version.
//!
//! | module | direction | content |
//! | --- | --- | --- |
//! | [`hook`] | | numbers of the hooks |
//! | [`filter`] | to the kernel | which packets to trace |
//! | [`kernel`] | to the kernel | struct offsets and argument positions of this kernel |
//! | [`event`] | from the kernel | records in the ring buffer, counters |
//! | [`conntrack`] | from the kernel | part of a record |
//! | [`stats`] | from the kernel | counts in place of records |
//! | [`wire`] | | facts about packet headers that both sides need |
//!
//! The kernel side writes what only the kernel knows (time, identity, device, namespace, drop reason) and copies the
//! packet's first bytes. User space parses the headers, so a new protocol is no change of the ABI unless the filter has to
//! look inside it.
#![no_std]

pub mod conntrack;
pub mod event;
pub mod filter;
pub mod hook;
pub mod kernel;
#[cfg(feature = "user")]
mod pod;
pub mod stats;
pub mod wire;

pub use conntrack::{Conntrack, ConntrackTuple, status};
pub use event::{CAPTURE, Counters, Event, Record, flag};
pub use filter::{Address, Filter, PORTS, VXLAN_PORTS, filter_flag, side};
pub use hook::manip;
pub use kernel::{ABSENT, Arguments, NO_ARGUMENT, Offsets, is_kernel_address};

/// Version of everything in this crate.
pub const ABI_VERSION: u32 = 6;
