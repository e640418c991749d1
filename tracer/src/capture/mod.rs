//! WHAT each point saw: records as they come from the kernel, and their encoding in frames.

mod record;
#[cfg(target_os = "linux")]
mod ring;

pub use record::{Malformed, RawEvent, Records, encode, shorten};
#[cfg(target_os = "linux")]
pub use ring::{Drained, drain};
