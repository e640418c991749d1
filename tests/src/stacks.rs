//! A lab with IPv6 beside IPv4.

use anyhow::Result;

use crate::lab::Lab;

/// The network of such a lab.
const NETWORK: &str = "flannel-dual-stack";

/// IPv6 addresses of the lab's pods, once it has two stacks, as `ip` writes them.
pub const POD1_V6: &str = "fd00:42::10";
/// See [`POD1_V6`].
pub const POD2_V6: &str = "fd00:42::11";
/// See [`POD1_V6`].
pub const POD3_V6: &str = "fd00:42:1::10";
/// See [`POD1_V6`].
pub const POD4_V6: &str = "fd00:42:1::11";

/// Builds a lab with both for the test of this name, whose nodes have these rules for Services.
///
/// # Errors
///
/// If it cannot be built.
pub fn two_stacks(test: &str, rules: &str) -> Result<Lab> {
    Lab::on(test, NETWORK, rules)
}
