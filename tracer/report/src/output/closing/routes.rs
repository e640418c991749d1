//! Which ways packets took and how long: the most frequent first, with the median of each step.

use super::{heading, more};
use crate::output::layout::write_line;
use crate::output::phrase::{BAD, CHANGED, DIM, GOOD, NAME, PLAIN, Phrase, WIRE};
use crate::output::timing::Unit;
use crate::output::words::{kind_of_nat, thousands};
use crate::totals::{Finished, Latency, Route, RouteHop, all, failed};
use podtrace_path::Action;

/// The section with at most so many lines; empty without a path.
pub(super) fn section(finished: &Finished, width: usize, lines: usize) -> String {
    let Finished { routes, totals, .. } = finished;
    let mut text = String::new();
    if routes.is_empty() {
        return text;
    }
    write_line(&heading("ROUTES", "with the median time of each step"), 0, 2, width, &mut text);
    let mut shown = 0;
    for (index, route) in routes.iter().enumerate() {
        let mut block = String::new();
        describe(route, width, &mut block);
        let room = lines.saturating_sub(1 + text.lines().count());
        if index > 0 && block.lines().count() > room {
            break;
        }
        text.push_str(&block);
        shown += 1;
    }
    let hidden = routes.len() - shown;
    let paths =
        routes[shown..].iter().map(|route| all(&route.paths)).sum::<u64>() + totals.unlisted_route_paths;
    if paths > 0 {
        let number =
            if totals.unlisted_route_paths > 0 { format!("more than {hidden}") } else { hidden.to_string() };
        let routes = if hidden == 1 { "route" } else { "routes" };
        let packets = if paths == 1 { "packet" } else { "packets" };
        more(&format!("and {number} more {routes} of {} {packets}", thousands(paths)), width, &mut text);
    }
    text
}

fn describe(route: &Route, width: usize, text: &mut String) {
    let unit = Unit::for_up_to(route.latency.p50_ns);
    let mut phrase = Phrase::new().with(NAME, format!("#{}", route.example));
    let packets = if all(&route.paths) == 1 { "packet" } else { "packets" };
    phrase.append(PLAIN, format!("{} {packets}", thousands(all(&route.paths))));
    match failed(&route.paths) {
        0 if route.paths.open == 0 => phrase.push(GOOD, ", delivered"),
        0 => phrase.push(PLAIN, format!(", {} in flight", thousands(route.paths.open))),
        number => phrase.push(BAD, format!(", {} failed", thousands(number))),
    }
    phrase.append(PLAIN, latency(&route.latency, all(&route.paths) == 1));
    write_line(&phrase, 2, 4, width, text);
    write_line(&way(route, unit), 6, 0, width, text);
}

/// `p50 74.0 p90 80.1 p99 120.0 max 912.4 ±5.7 µs`.
fn latency(latency: &Latency, is_one: bool) -> String {
    let Latency { p50_ns, p90_ns, p99_ns, max_ns, clock_error_ns } = *latency;
    let unit = Unit::for_up_to(max_ns);
    let number = |ns| unit.number(signed(ns));
    if is_one {
        return format!("in {}", unit.duration(signed(max_ns), clock_error_ns));
    }
    let error = if clock_error_ns == 0 { unit.symbol().to_owned() } else { unit.error(clock_error_ns) };
    format!(
        "p50 {} p90 {} p99 {} max {} {error}",
        number(p50_ns),
        number(p90_ns),
        number(p99_ns),
        number(max_ns)
    )
}

/// `node1: pod1 › cni0 2.8 › flannel.1 1.9 › eth0 3.5 ⇒ node2: eth0 5.0 ±5.7 › … › pod3 2.1 µs`.
pub(in crate::output) fn way(route: &Route, unit: Unit) -> Phrase {
    let mut phrase = Phrase::new();
    let mut previous: Option<&RouteHop> = None;
    for hop in &route.hops {
        let other_node = previous.is_none_or(|previous| previous.node != hop.node);
        if let Some(previous) = previous {
            // A translation is named behind the device where it happened.
            let same_place = !other_node && previous.device == hop.device;
            phrase.push(
                DIM,
                if other_node {
                    " ⇒ "
                } else if same_place {
                    " "
                } else {
                    " › "
                },
            );
        }
        if other_node {
            phrase.push(WIRE, format!("{}: ", hop.node));
        }
        let same_place = previous.is_some_and(|previous| !other_node && previous.device == hop.device);
        phrase.join(place(hop, same_place));
        if let Some(step) = hop.latency {
            phrase.push(PLAIN, format!(" {}", unit.number(signed(step.p50_ns))));
            if step.clock_error_ns > 0 {
                phrase.push(DIM, format!(" ±{}", unit.number(signed(step.clock_error_ns))));
            }
        }
        previous = Some(hop);
    }
    phrase.push(PLAIN, format!(" {}", unit.symbol()));
    phrase
}

/// Where a hop is, in a word or two: the pod behind a veth, the device, or what happened there.
fn place(hop: &RouteHop, is_same_place: bool) -> Phrase {
    let device = hop.device.as_deref().unwrap_or("–");
    let pod = hop.pod.as_deref().map(|pod| pod.rsplit_once('/').map_or(pod, |(_, name)| name));
    match (hop.action, hop.nat, pod) {
        (Action::Drop, _, Some(pod)) => Phrase::new().with(BAD, format!("✗ in {pod}")),
        (Action::Drop, _, None) if is_same_place => Phrase::new().with(BAD, "✗"),
        (Action::Drop, _, None) => Phrase::new().with(BAD, format!("✗ at {device}")),
        (_, Some(kind), _) if is_same_place => Phrase::new().with(CHANGED, kind_of_nat(kind)),
        (_, Some(kind), _) => {
            Phrase::new().with(PLAIN, format!("{device} ")).with(CHANGED, kind_of_nat(kind))
        }
        (Action::PodEgress | Action::PodIngress, None, Some(pod)) => Phrase::new().with(NAME, pod),
        (Action::LocalIn | Action::LocalOut, None, _) => Phrase::new().with(PLAIN, "itself"),
        _ => Phrase::new().with(PLAIN, device),
    }
}

fn signed(ns: u64) -> i64 {
    i64::try_from(ns).unwrap_or(i64::MAX)
}
