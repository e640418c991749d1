//! From a path under way to the finished path that reports show: its hops, what they were translated to, its verdict.

pub(crate) mod hops;
pub(crate) mod label;
pub(crate) mod steps;
pub(crate) mod translate;
pub(crate) mod verdict;
