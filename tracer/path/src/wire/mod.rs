//! Captured bytes, taken apart.

pub(crate) mod packet;
