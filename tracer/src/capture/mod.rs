//! WHAT each point saw: records as they come from the kernel, and their encoding in frames.

mod record;

pub use record::{Malformed, RawEvent, Records, encode};
