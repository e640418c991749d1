//! Routes: paths with equal sequences of hops, and the times they took.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::finished::{Latency, Route, RouteHop, all, count};
use super::histogram::Histogram;
use podtrace_path::{Action, Hop, NatKind, Path, VerdictCounts};

/// How many routes are kept one by one.
const LISTED: usize = 256;

/// What makes hops equal: node, device, action and translation.
pub(super) type Way = Vec<(Arc<str>, Option<Arc<str>>, Action, Option<NatKind>)>;

/// The sequence of a path's hops.
pub(super) fn way(path: &Path) -> Way {
    let hop =
        |hop: &Hop| (hop.node.clone(), hop.device.clone(), hop.action, hop.nat.as_ref().map(|nat| nat.kind));
    path.hops.iter().map(hop).collect()
}

/// All routes of a trace.
#[derive(Clone, Debug, Default)]
pub(super) struct Routes {
    by_way: FxHashMap<Way, usize>,
    known: Vec<Known>,
    unlisted: u64,
}

#[derive(Clone, Debug)]
struct Known {
    hops: Vec<RouteHop>,
    paths: VerdictCounts,
    total: Times,
    steps: Vec<Times>,
    example: u64,
}

#[derive(Clone, Debug, Default)]
struct Times {
    histogram: Histogram,
    clock_error_ns: u64,
}

impl Times {
    fn record(&mut self, ns: i64, error_ns: u64) {
        self.histogram.record(ns);
        self.clock_error_ns = self.clock_error_ns.max(error_ns);
    }

    fn latency(&self) -> Option<Latency> {
        let Self { histogram, clock_error_ns } = self;
        (histogram.count() > 0).then(|| Latency {
            p50_ns: histogram.percentile(50),
            p90_ns: histogram.percentile(90),
            p99_ns: histogram.percentile(99),
            max_ns: histogram.max(),
            clock_error_ns: *clock_error_ns,
        })
    }
}

impl Routes {
    /// Adds a path.
    pub(super) fn add(&mut self, path: &Path) {
        let way = way(path);
        let index = match self.by_way.get(&way) {
            Some(index) => *index,
            None if self.known.len() >= LISTED => {
                self.unlisted += 1;
                return;
            }
            None => {
                self.by_way.insert(way, self.known.len());
                self.known.push(Known::new(path));
                self.known.len() - 1
            }
        };
        self.known[index].add(path);
    }

    /// Paths of routes that are not listed.
    pub(super) fn unlisted(&self) -> u64 {
        self.unlisted
    }

    /// The routes, the most frequent first.
    pub(super) fn finished(&self) -> Vec<Route> {
        let mut routes: Vec<_> = self.known.iter().zip(1..).map(|(known, id)| known.finished(id)).collect();
        routes.sort_by_key(|route| (u64::MAX - all(&route.paths), route.id));
        routes
    }
}

impl Known {
    fn new(path: &Path) -> Self {
        let hops: Vec<_> = path
            .hops
            .iter()
            .map(|hop| RouteHop {
                node: hop.node.clone(),
                device: hop.device.clone(),
                action: hop.action,
                nat: hop.nat.as_ref().map(|nat| nat.kind),
                pod: hop.pod.clone(),
                latency: None,
            })
            .collect();
        Self {
            steps: vec![Times::default(); hops.len()],
            hops,
            paths: VerdictCounts::default(),
            total: Times::default(),
            example: path.id,
        }
    }

    fn add(&mut self, path: &Path) {
        count(path.verdict, &mut self.paths);
        self.total.record(path.duration_ns, path.duration_error_ns);
        let mut previous: Option<(&Hop, i64)> = None;
        for (hop, times) in path.hops.iter().zip(&mut self.steps) {
            let Some(at) = hop.at_ns else { continue };
            if let Some((earlier, earlier_at)) = previous {
                // Each error is relative to the first hop's clock; between two other clocks they add up.
                let error = if earlier.node == hop.node {
                    0
                } else {
                    earlier.clock_error_ns.saturating_add(hop.clock_error_ns)
                };
                times.record(at.saturating_sub(earlier_at), error);
            }
            previous = Some((hop, at));
        }
    }

    fn finished(&self, id: u64) -> Route {
        let hops = self.hops.iter().zip(&self.steps);
        Route {
            id,
            hops: hops.map(|(hop, times)| RouteHop { latency: times.latency(), ..hop.clone() }).collect(),
            paths: self.paths,
            latency: self.total.latency().unwrap_or_default(),
            example: self.example,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;

    #[test]
    fn equal_ways_are_one_route_with_times_per_hop() {
        let mut routes = Routes::default();
        let mut request = samples::cross_node_request();
        for duration in [80_000, 90_000, 100_000] {
            request.duration_ns = duration;
            request.id += 1;
            routes.add(&request);
        }
        routes.add(&samples::cross_node_reply());
        let [first, second] = routes.finished().try_into().unwrap();
        assert_eq!((first.id, first.paths.delivered, first.example), (1, 3, request.id - 2));
        assert_eq!(
            (first.latency.max_ns, first.latency.clock_error_ns),
            (100_000, request.duration_error_ns)
        );
        assert_eq!(second.paths.delivered, 1);
        let steps: Vec<_> = first.hops.iter().map(|hop| hop.latency.map(|latency| latency.max_ns)).collect();
        assert_eq!(steps[..2], [None, Some(24_100)]);
        let wire = first.hops[4].latency.unwrap();
        assert!(wire.clock_error_ns > 0, "two clocks measured it");
        assert_eq!(first.hops[5].latency.unwrap().clock_error_ns, 0);
    }

    #[test]
    fn routes_beyond_the_bound_are_counted() {
        let mut routes = Routes::default();
        let mut path = samples::same_node();
        for number in 0..LISTED + 3 {
            path.hops[0].device = Some(format!("veth{number}").into());
            routes.add(&path);
        }
        assert_eq!((routes.finished().len(), routes.unlisted()), (LISTED, 3));
    }
}
