//! Checks of the nodes' network state: facts in, findings out. Pure, so that a trace and a look at standing nodes share
//! them.

mod addresses;
mod links;
mod neighbours;
mod pods;
mod routing;
pub(super) mod tunnels;

use super::facts::Facts;
use super::finding::Finding;

/// Everything that is wrong, the most specific kinds first.
#[must_use]
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    links::check(facts, &mut found);
    neighbours::check(facts, &mut found);
    tunnels::check(facts, &mut found);
    pods::check(facts, &mut found);
    routing::check(facts, &mut found);
    addresses::check(facts, &mut found);
    found.sort_by_key(|finding| finding.kind);
    found
}
