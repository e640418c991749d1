//! Puts equal findings together, consequences under their cause, and what explains most first.

use super::issue::{Issue, Kind};

/// Folds and orders.
pub(super) fn fold(issues: Vec<Issue>) -> Vec<Issue> {
    let mut folded: Vec<Issue> = Vec::new();
    for issue in issues {
        match folded.iter_mut().find(|other| is_same(other, &issue)) {
            Some(other) => {
                let place = issue.place().to_owned();
                if other.place() != place && !other.also.contains(&place) {
                    other.also.push(place);
                }
                other.severity = other.severity.min(issue.severity);
                other.about.extend(issue.about);
            }
            None => folded.push(issue),
        }
    }
    let mut roots = nest(folded);
    roots.sort_by_key(order);
    roots
}

/// The worst first, then what has the most consequences, then what many packets pass.
fn order(issue: &Issue) -> impl Ord + use<> {
    let explains = issue.consequences.len() + issue.also.len();
    (
        issue.severity,
        std::cmp::Reverse(explains),
        issue.kind,
        issue.node.clone(),
        issue.pod.clone(),
        issue.device.clone(),
    )
}

/// Whether two findings are one, of several pods or devices: alike but for names. What a check says of one place twice is
/// one as well.
fn is_same(one: &Issue, other: &Issue) -> bool {
    let alike = |one: &Issue| generic(one);
    // One node whose tunnel differs does so from every other.
    if one.kind == Kind::TunnelMismatch && other.kind == Kind::TunnelMismatch {
        let is_port = |issue: &Issue| issue.found.contains("UDP port");
        return one.device == other.device && is_port(one) == is_port(other);
    }
    (one.kind, &one.node, &one.effect) == (other.kind, &other.node, &other.effect)
        && (one.found == other.found
            || (folds(one.kind) && one.device == other.device && alike(one) == alike(other)))
}

/// Kinds that a node's pods share by one cause.
fn folds(kind: Kind) -> bool {
    matches!(kind, Kind::Mtu | Kind::EchoIgnored | Kind::NoDefaultRoute | Kind::WrongGateway)
}

/// The sentence without the pod's name.
fn generic(issue: &Issue) -> String {
    issue.pod.as_ref().map_or_else(|| issue.found.clone(), |pod| issue.found.replace(pod.as_str(), "…"))
}

/// Moves consequences under their cause.
fn nest(issues: Vec<Issue>) -> Vec<Issue> {
    let cause_of: Vec<Option<usize>> = issues
        .iter()
        .enumerate()
        .map(|(number, issue)| {
            let causes = issues.iter().enumerate().filter(|(other, _)| *other != number);
            causes.filter(|(_, cause)| leads_to(cause, issue)).map(|(cause, _)| cause).next()
        })
        .collect();
    // A cause's cause takes both.
    let root = |mut number: usize| {
        for _ in 0..cause_of.len() {
            match cause_of[number] {
                Some(cause) => number = cause,
                None => break,
            }
        }
        number
    };
    let roots: Vec<usize> = (0..issues.len()).map(root).collect();
    let mut slots: Vec<Option<Issue>> = issues.into_iter().map(Some).collect();
    for (number, root) in roots.iter().enumerate() {
        if *root != number
            && let Some(issue) = slots[number].take()
        {
            match &mut slots[*root] {
                Some(cause) => cause.consequences.push(mended_with(cause, issue)),
                None => slots[number] = Some(issue),
            }
        }
    }
    slots.into_iter().flatten().collect()
}

/// A consequence, without a fix if it ends with its cause.
fn mended_with(cause: &Issue, mut issue: Issue) -> Issue {
    if (cause.kind, issue.kind) == (Kind::LinkDown, Kind::BridgePort) {
        issue.fix = None;
    }
    issue
}

/// Whether one finding makes the other.
fn leads_to(cause: &Issue, issue: &Issue) -> bool {
    let same_node = cause.node == issue.node;
    let same_device = cause.device.is_some() && cause.device == issue.device;
    let meets = || {
        cause
            .about
            .iter()
            .any(|one| issue.about.iter().any(|other| one.contains(other) || other.contains(one)))
    };
    match (cause.kind, issue.kind) {
        // A device that goes down loses its routes and its neighbour entries.
        (Kind::LinkDown, Kind::NoRoute | Kind::NoTunnelEnd | Kind::NoNeighbour) => {
            same_node && same_device && cause.pod.is_none()
        }
        // A bridge that is down disables its ports.
        (Kind::LinkDown, Kind::BridgePort) => same_node && cause.pod.is_none() && cause.device == issue.below,
        (Kind::LinkDown, Kind::NoDefaultRoute) => same_node && cause.pod == issue.pod,
        (Kind::LinkDown, Kind::Unanswered) => same_node,
        (Kind::ReversePath, Kind::WrongRoute) | (Kind::TunnelMismatch, Kind::Unanswered) => same_node,
        (Kind::AddressTwice, Kind::WrongNeighbour | Kind::Unanswered) => meets(),
        (
            Kind::WrongNeighbour
            | Kind::DroppedByRule
            | Kind::BridgePort
            | Kind::NoNamespace
            | Kind::WrongGateway,
            Kind::Unanswered,
        ) => same_node && (cause.about.is_empty() || meets()),
        (Kind::Refused, Kind::NoRoute) => same_node && meets(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::issue::Severity;

    fn issue(severity: Severity, kind: Kind, node: &str, device: &str) -> Issue {
        Issue::at(severity, kind, node, Some(device)).found(format!("{kind:?} at {device}"), "")
    }

    #[test]
    fn consequences_are_folded_under_their_cause_and_the_worst_is_first() {
        let issues = vec![
            issue(Severity::Warning, Kind::Mtu, "node1", "eth0"),
            issue(Severity::Fault, Kind::NoRoute, "node1", "cni0"),
            issue(Severity::Fault, Kind::NoRoute, "node2", "cni0"),
            issue(Severity::Fault, Kind::LinkDown, "node1", "cni0"),
        ];
        let folded = fold(issues);
        let kinds: Vec<_> =
            folded.iter().map(|issue| (issue.kind, issue.node.as_str(), issue.consequences.len())).collect();
        assert_eq!(
            kinds,
            [(Kind::LinkDown, "node1", 1), (Kind::NoRoute, "node2", 0), (Kind::Mtu, "node1", 0)]
        );
    }

    #[test]
    fn the_same_of_several_pods_is_one_finding() {
        let of = |pod: &str| {
            let mut issue = Issue::at(Severity::Warning, Kind::EchoIgnored, "node1", None)
                .found(format!("{pod} does not answer pings"), "");
            issue.pod = Some(pod.to_owned());
            issue
        };
        let folded = fold(vec![of("default/a"), of("default/b"), of("default/c")]);
        assert_eq!(folded.len(), 1);
        assert_eq!(folded[0].also, ["default/b", "default/c"]);
    }
}
