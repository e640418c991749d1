//! What only a look at all nodes shows. Each check reads the whole picture and adds what it finds.

mod bridges;
mod filters;
mod mtu;
mod namespaces;
mod services;
mod subnets;
mod translations;
mod tunnels;
mod ways;

use super::cluster::Cluster;
use super::issue::Issue;

pub(super) use self::filters::pairs;
pub(super) use self::services::any as makes_services;

/// Runs all checks.
pub(super) fn all(cluster: &Cluster<'_>, found: &mut Vec<Issue>) {
    ways::check(cluster, found);
    tunnels::check(cluster, found);
    mtu::check(cluster, found);
    subnets::check(cluster, found);
    bridges::check(cluster, found);
    namespaces::check(cluster, found);
    filters::check(cluster, found);
    translations::check(cluster, found);
    services::check(cluster, found);
}
