//! What is different between two traces: causes that came, went, or changed in number, routes, and how long packets took.
//!
//! Input: what two traces amount to ([`Finished`]). Output: [`Difference`].
//!
//! 1. Two causes are the same if they are at an equal place, for an equal reason, by an equal rule. Two routes are the same if
//!    their hops are. Numbers of paths, addresses and times are no part of that.
//! 2. Shares are compared, not counts: the traces may be of different length.
//! 3. A latency has changed if the medians differ by more than both traces' clock errors, and by a quarter at least; of routes
//!    with fewer than [`ENOUGH`] packets in either trace nothing is said.
//!
//! Limits: devices of pods have other names after a pod was created again, so its routes are other ones.

use serde::Serialize;

use crate::totals::{Cause, Finished, Latency, Route, all, failed};
use podtrace_path::{Action, NatKind};

/// Packets of a route from which on its latency is compared.
const ENOUGH: u64 = 5;

/// By which part of the smaller one medians have to differ.
const PART: u64 = 4;

/// What is different.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Difference {
    /// The first trace's packets, and those that failed.
    pub before: Packets,
    /// The second trace's.
    pub after: Packets,
    /// Causes, those that are new first.
    pub causes: Vec<CauseChange>,
    /// Routes that one trace has and the other has not, and those whose latency changed.
    pub routes: Vec<RouteChange>,
    /// Whether one of the traces has more causes or routes than it lists, or lost events: what is missing may be there.
    pub complete: bool,
}

/// Packets of a trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Packets {
    /// All.
    pub all: u64,
    /// Those that failed.
    pub failed: u64,
}

/// A cause in either trace.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CauseChange {
    /// How many packets in the first trace; 0 if it is new.
    pub before: u64,
    /// How many in the second; 0 if it is gone.
    pub after: u64,
    /// The cause, of the trace that has it; of the second if both do.
    pub cause: Cause,
}

/// A route in either trace.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RouteChange {
    /// How many packets in the first trace; 0 if it is new.
    pub before: u64,
    /// How many in the second; 0 if it is gone.
    pub after: u64,
    /// How long they took in both, where that changed.
    pub latency: Option<(Latency, Latency)>,
    /// The route, of the trace that has it; of the second if both do.
    pub route: Route,
}

impl Difference {
    /// Whether nothing is worse: no new cause, and no cause of a larger share.
    #[must_use]
    pub fn is_no_worse(&self) -> bool {
        self.causes.iter().all(|change| !change.is_worse(self.before.all, self.after.all))
    }
}

impl CauseChange {
    /// Whether its share of all packets grew.
    fn is_worse(&self, all_before: u64, all_after: u64) -> bool {
        let share = |part: u64, of_other: u64| u128::from(part) * u128::from(of_other.max(1));
        share(self.after, all_before) > share(self.before, all_after)
    }
}

/// Compares two traces.
#[must_use]
pub fn compare(before: &Finished, after: &Finished) -> Difference {
    let packets = |finished: &Finished| Packets {
        all: all(&finished.totals.paths),
        failed: failed(&finished.totals.paths),
    };
    let is_whole = |finished: &Finished| {
        let totals = &finished.totals;
        totals.complete && totals.unlisted_cause_paths == 0 && totals.unlisted_route_paths == 0
    };
    Difference {
        before: packets(before),
        after: packets(after),
        causes: causes(&before.causes, &after.causes),
        routes: routes(&before.routes, &after.routes),
        complete: is_whole(before) && is_whole(after),
    }
}

/// What makes causes the same in two traces.
fn cause_key(cause: &Cause) -> impl PartialEq + use<'_> {
    let drop = cause.drop.as_ref();
    let rule = drop.and_then(|drop| drop.rule.as_ref()).map(ToString::to_string);
    let words = |text: Option<&str>| {
        let words = text.unwrap_or_default().split([' ', '`']);
        words.filter(|word| !word.contains(|c: char| c.is_ascii_digit())).collect::<Vec<_>>().join(" ")
    };
    (
        cause.verdict,
        &cause.node,
        &cause.device,
        &cause.pod,
        drop.map(|drop| (&drop.reason, &drop.location)),
        rule,
        words(cause.reason.as_deref()),
    )
}

fn causes(before: &[Cause], after: &[Cause]) -> Vec<CauseChange> {
    let count = |causes: &[Cause], cause: &Cause| {
        let same = causes.iter().filter(|other| cause_key(other) == cause_key(cause));
        same.map(|other| other.count).sum::<u64>()
    };
    let mut changes: Vec<CauseChange> = Vec::new();
    for cause in after.iter().chain(before) {
        if changes.iter().any(|change| cause_key(&change.cause) == cause_key(cause)) {
            continue;
        }
        let (before, after) = (count(before, cause), count(after, cause));
        changes.push(CauseChange { before, after, cause: cause.clone() });
    }
    // New ones first, then those that are still there, then those that are gone.
    changes.sort_by_key(|change| {
        (change.after == 0, change.before > 0, std::cmp::Reverse(change.after.max(change.before)))
    });
    changes
}

type Place<'a> = (&'a str, Option<&'a str>, Action, Option<NatKind>);

fn places(route: &Route) -> Vec<Place<'_>> {
    let hops = route.hops.iter();
    hops.map(|hop| (&*hop.node, hop.device.as_deref(), hop.action, hop.nat)).collect()
}

fn routes(before: &[Route], after: &[Route]) -> Vec<RouteChange> {
    let find =
        |routes: &[Route], route: &Route| routes.iter().position(|other| places(other) == places(route));
    let mut changes = Vec::new();
    for route in after {
        let old = find(before, route).map(|at| &before[at]);
        let latency = old.and_then(|old| changed(old, route));
        if old.is_none() || latency.is_some() {
            let before = old.map_or(0, |old| all(&old.paths));
            changes.push(RouteChange { before, after: all(&route.paths), latency, route: route.clone() });
        }
    }
    for route in before.iter().filter(|route| find(after, route).is_none()) {
        changes.push(RouteChange {
            before: all(&route.paths),
            after: 0,
            latency: None,
            route: route.clone(),
        });
    }
    changes.sort_by_key(|change| std::cmp::Reverse(change.after.max(change.before)));
    changes
}

/// The latencies of a route in both traces, if they differ by more than their errors.
fn changed(before: &Route, after: &Route) -> Option<(Latency, Latency)> {
    if all(&before.paths) < ENOUGH || all(&after.paths) < ENOUGH {
        return None;
    }
    let (old, new) = (before.latency, after.latency);
    let differ = old.p50_ns.abs_diff(new.p50_ns);
    let error = old.clock_error_ns.saturating_add(new.clock_error_ns);
    (differ > error && differ > old.p50_ns.min(new.p50_ns) / PART).then_some((old, new))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;
    use podtrace_path::Path;

    fn healthy(duration_ns: i64) -> impl Iterator<Item = Path> {
        (1..=20).map(move |id| Path {
            id,
            duration_ns,
            duration_error_ns: 0,
            ..samples::cross_node_request()
        })
    }

    #[test]
    fn equal_traces_do_not_differ() {
        let (one, two) = (samples::finished(healthy(80_000)), samples::finished(healthy(82_000)));
        let difference = compare(&one, &two);
        assert!(difference.causes.is_empty() && difference.routes.is_empty(), "{difference:?}");
        assert!(difference.is_no_worse() && difference.complete);
    }

    #[test]
    fn a_new_cause_is_worse_and_one_that_is_gone_is_not() {
        let one = samples::finished(healthy(80_000));
        let two = samples::finished(healthy(80_000).chain([samples::dropped()]));
        let worse = compare(&one, &two);
        assert_eq!((worse.causes[0].before, worse.causes[0].after), (0, 1));
        assert!(!worse.is_no_worse());
        assert_eq!(worse.routes.len(), 1, "the way of the packet that was dropped");
        let better = compare(&two, &one);
        assert_eq!((better.causes[0].before, better.causes[0].after), (1, 0));
        assert!(better.is_no_worse());
    }

    #[test]
    fn latencies_differ_only_beyond_their_errors() {
        let (fast, slow) = (samples::finished(healthy(80_000)), samples::finished(healthy(160_000)));
        let difference = compare(&fast, &slow);
        let (old, new) = difference.routes[0].latency.unwrap();
        assert_eq!((old.max_ns, new.max_ns), (80_000, 160_000));
        let uncertain =
            |ns| samples::finished(healthy(ns).map(|path| Path { duration_error_ns: 50_000, ..path }));
        assert!(compare(&uncertain(80_000), &uncertain(160_000)).routes.is_empty());
        let few = samples::finished(healthy(160_000).take(4));
        assert!(compare(&fast, &few).routes.is_empty());
    }
}
