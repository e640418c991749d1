//! The binary `podtrace`; everything is in the library.

fn main() {}
