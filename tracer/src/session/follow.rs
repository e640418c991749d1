//! What a cluster that changes means for what is traced: pure, so that every turn of it can be tried.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use podtrace_path::{Change, ChangeKind, Place, Update};
use podtrace_protocol::frame::{Configuration, FilterSpec};
use podtrace_protocol::inventory::{Delta, Endpoint, Inventory, ResolveError, Resolved};
use podtrace_report::replay::Aim;

/// How long an address is still looked for that is nobody's of the trace any more: what was sent there is under way.
const GRACE_NS: u64 = 10_000_000_000;

/// A moment, by the tracer's clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moment {
    /// Monotonic, nanoseconds.
    pub(super) monotonic_ns: u64,
    /// Nanoseconds since 1970.
    pub(super) realtime_ns: u64,
}

/// One end of the traffic.
#[derive(Debug)]
struct End {
    named: Endpoint,
    /// What it meant last.
    resolved: Resolved,
    /// Whether it means that still.
    present: bool,
    /// Addresses that it meant before.
    leaving: BTreeMap<IpAddr, Leaving>,
    /// Where its pods were seen last.
    places: BTreeMap<String, Place>,
}

/// An address that is no end's any more.
#[derive(Debug)]
struct Leaving {
    /// Until when it is looked for; `None`: until the end is there again.
    until: Option<u64>,
    /// Full name of the pod that had it.
    pod: Option<String>,
}

/// What is traced of a cluster that changes.
#[derive(Debug)]
pub(super) struct Following {
    aim: Aim,
    inventory: Inventory,
    ends: [End; 2],
    filter: FilterSpec,
    /// Full names of the pods whose veths are tapped; `None` for all.
    tapped: Option<BTreeSet<String>>,
}

impl Following {
    /// From what was resolved at first.
    pub(super) fn new(
        aim: Aim,
        inventory: Inventory,
        (from, to): (Resolved, Resolved),
        filter: FilterSpec,
        tapped: Option<BTreeSet<String>>,
    ) -> Self {
        let end = |named: &Endpoint, resolved: Resolved| End {
            named: named.clone(),
            places: places(&inventory, &resolved.pods),
            resolved,
            present: true,
            leaving: BTreeMap::new(),
        };
        let ends = [end(&aim.from, from), end(&aim.to, to)];
        Self { aim, inventory, ends, filter, tapped }
    }

    /// The cluster is so now; `renewed` are pods that were made anew. `None` if that is of no interest at all.
    pub(super) fn take(
        &mut self,
        inventory: Inventory,
        renewed: &BTreeSet<String>,
        now: Moment,
    ) -> Option<Update> {
        let delta = Delta::between(&self.inventory, &inventory);
        // What means nothing serves to say why, and is kept for that.
        self.inventory.apply(&delta);
        self.inventory.untraceable = inventory.untraceable;
        let mut told = Vec::new();
        for end in &mut self.ends {
            let resolved = self.aim.end_now(&end.named, &self.inventory);
            end.take(resolved, &self.inventory, renewed, now, &mut told);
        }
        told.dedup();
        if let Some(tapped) = &mut self.tapped {
            tapped.extend(self.ends.iter().flat_map(|end| end.resolved.pods.iter().cloned()));
        }
        let filter = self.refilter();
        let update = Update { at_ns: now.monotonic_ns, delta, filter, changes: told, ..Update::default() };
        (!(update.delta.is_empty() && update.filter.is_none() && update.changes.is_empty())).then_some(update)
    }

    /// When [`Following::expire`] has something to do.
    pub(super) fn next_expiry(&self) -> Option<u64> {
        self.ends.iter().flat_map(|end| end.leaving.values().filter_map(|leaving| leaving.until)).min()
    }

    /// Ends the looking for addresses whose time is over.
    pub(super) fn expire(&mut self, now: Moment) -> Option<Update> {
        for end in &mut self.ends {
            end.leaving.retain(|_, leaving| leaving.until.is_none_or(|until| until > now.monotonic_ns));
        }
        let filter = Some(self.refilter()?);
        Some(Update { at_ns: now.monotonic_ns, filter, ..Update::default() })
    }

    /// The filter, if it is another than before.
    fn refilter(&mut self) -> Option<FilterSpec> {
        let [from, to] = &self.ends;
        let mut filter = self.aim.filter(&from.resolved, &to.resolved);
        // What the eBPF programs were loaded with.
        filter.from.ports.clone_from(&self.filter.from.ports);
        filter.to.ports.clone_from(&self.filter.to.ports);
        for (side, end) in [(&mut filter.from, from), (&mut filter.to, to)] {
            side.addresses.retain(|address| end.present || end.leaving.contains_key(address));
            for address in end.leaving.keys() {
                if !side.addresses.contains(address) {
                    side.addresses.push(*address);
                }
            }
        }
        if filter == self.filter {
            return None;
        }
        self.filter.clone_from(&filter);
        Some(filter)
    }

    /// The cluster as it is known.
    pub(super) fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// Names of the nodes that packets of interest pass now.
    pub(super) fn nodes(&self) -> Vec<String> {
        let [from, to] = &self.ends;
        self.aim.nodes(&self.inventory, &from.resolved, &to.resolved)
    }

    /// Pods of both ends that are on this node, and where.
    pub(super) fn on_node(&self, node: &str) -> Vec<(String, Place)> {
        let places = self.ends.iter().filter(|end| end.present).flat_map(|end| &end.places);
        let here = places.filter(|(_, place)| place.node.as_deref() == Some(node));
        let here: BTreeMap<_, _> = here.map(|(pod, place)| (pod.clone(), place.clone())).collect();
        here.into_iter().collect()
    }

    /// What a node's agent is told now.
    pub(super) fn configuration(&self, node: &str) -> Option<Configuration> {
        let node = self.inventory.nodes.iter().find(|known| known.name == node)?;
        Some(super::plan::configuration(&self.inventory, node, &self.filter, self.tapped.as_ref()))
    }
}

impl End {
    fn take(
        &mut self,
        resolved: Result<Resolved, ResolveError>,
        inventory: &Inventory,
        renewed: &BTreeSet<String>,
        now: Moment,
        told: &mut Vec<Change>,
    ) {
        match resolved {
            Err(_) if !self.present => {}
            Err(error) => {
                self.present = false;
                // Looked for until it is there again, or another has them.
                self.leave(&self.resolved.addresses.clone(), None);
                self.tell_gone(&error, now, told);
            }
            Ok(resolved) => {
                let was_present = std::mem::replace(&mut self.present, true);
                let before = std::mem::replace(&mut self.resolved, resolved);
                let places = places(inventory, &self.resolved.pods);
                self.tell(&before, was_present, &places, renewed, now, told);
                let until = now.monotonic_ns.saturating_add(GRACE_NS);
                for leaving in self.leaving.values_mut() {
                    leaving.until.get_or_insert(until);
                }
                let gone =
                    before.addresses.into_iter().filter(|address| !self.resolved.addresses.contains(address));
                self.leave(&gone.collect::<Vec<_>>(), Some(until));
                self.leaving.retain(|address, _| !self.resolved.addresses.contains(address));
                self.places = places;
            }
        }
        self.leaving.retain(|address, leaving| {
            let mut pods = inventory.pods.iter().filter(|pod| !pod.host_network && pod.ips.contains(address));
            pods.all(|pod| leaving.pod.as_ref().is_some_and(|own| *own == pod.full_name()))
        });
    }

    fn leave(&mut self, addresses: &[IpAddr], until: Option<u64>) {
        for address in addresses {
            let pod = self.places.iter().find(|(_, place)| place.ips.contains(address));
            let pod = pod.map(|(name, _)| name.clone());
            self.leaving.entry(*address).or_insert(Leaving { until, pod });
        }
    }

    fn about(&self) -> String {
        match &self.named {
            // Whose it is changes.
            Endpoint::Address { .. } => self.named.to_string(),
            _ => self.resolved.what.clone(),
        }
    }

    fn tell_gone(&self, error: &ResolveError, now: Moment, told: &mut Vec<Change>) {
        let was = match (&self.named, self.places.values().next()) {
            (Endpoint::Pod { .. }, Some(place)) => Some(place.clone()),
            _ => None,
        };
        let detail = match error {
            ResolveError::Unknown { .. } => None,
            ResolveError::NoAddress { .. } => Some("it has no address yet".to_owned()),
            ResolveError::Unscheduled { .. } => Some("it waits for a node".to_owned()),
            ResolveError::Completed { .. } => Some("it has completed".to_owned()),
            ResolveError::EmptyService { .. } => Some("no pod is behind it".to_owned()),
            other => Some(other.to_string()),
        };
        told.push(Change { was, detail, ..Change::of(now.realtime_ns, self.about(), ChangeKind::Gone) });
    }

    fn tell(
        &self,
        before: &Resolved,
        was_present: bool,
        places: &BTreeMap<String, Place>,
        renewed: &BTreeSet<String>,
        now: Moment,
        told: &mut Vec<Change>,
    ) {
        let at = now.realtime_ns;
        let is_pod = matches!(self.named, Endpoint::Pod { .. });
        if !was_present {
            let now = places.values().next().filter(|_| is_pod).cloned();
            told.push(Change { now, ..Change::of(at, self.about(), ChangeKind::Back) });
            return;
        }
        let without = |these: &[String], those: &[String]| -> Vec<String> {
            these.iter().filter(|pod| !those.contains(pod)).cloned().collect()
        };
        let added = without(&self.resolved.pods, &before.pods);
        let removed = without(&before.pods, &self.resolved.pods);
        if !(added.is_empty() && removed.is_empty()) {
            told.push(Change { added, removed, ..Change::of(at, self.about(), ChangeKind::Endpoints) });
        }
        for (pod, place) in places {
            let Some(was) = self.places.get(pod) else { continue };
            let what = match (was == place, renewed.contains(pod)) {
                (false, _) => ChangeKind::Moved,
                (true, true) => ChangeKind::Renewed,
                (true, false) => continue,
            };
            let was = (what == ChangeKind::Moved).then(|| was.clone());
            told.push(Change { now: Some(place.clone()), was, ..Change::of(at, pod.clone(), what) });
        }
    }
}

/// Where pods are, by their full names.
fn places(inventory: &Inventory, pods: &[String]) -> BTreeMap<String, Place> {
    let named = inventory.pods.iter().map(|pod| (pod.full_name(), pod));
    named
        .filter(|(name, _)| pods.contains(name))
        .map(|(name, pod)| (name, Place { ips: pod.ips.clone(), node: Some(pod.node.clone()) }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// A cluster with pods as `name ip node`, and a Service before those that are named.
    fn cluster(pods: &[&str], web: &[&str]) -> Inventory {
        let mut text = "nodes: [{name: node1}, {name: node2}, {name: node3}]\npods:\n".to_owned();
        for pod in pods {
            let [name, ip, node] = pod.split(' ').collect::<Vec<_>>()[..] else { panic!("{pod}") };
            text.push_str(&format!("- {{name: {name}, ips: [{ip}], node: {node}}}\n"));
        }
        let web: Vec<_> = web.iter().map(|name| format!("default/{name}")).collect();
        text.push_str(&format!(
            "services: [{{name: web, cluster_ips: [10.96.0.20], ports: [{{protocol: tcp, port: 80, target_port: 8080}}], \
             endpoints: [{}]}}]\n",
            web.join(", ")
        ));
        podtrace_protocol::inventory::parse(&text).unwrap()
    }

    fn following(from: &str, to: &str, inventory: &Inventory) -> Following {
        let aim = Aim {
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            namespace: "default".to_owned(),
            port: None,
            protocol: None,
            one_way: false,
            sample: None,
            stats: false,
        };
        let (from, to) = aim.ends(inventory).unwrap();
        let filter = aim.filter(&from, &to);
        let tapped = from.pods.iter().chain(&to.pods).cloned().collect();
        Following::new(aim, inventory.clone(), (from, to), filter, Some(tapped))
    }

    fn at(seconds: u64) -> Moment {
        Moment { monotonic_ns: seconds * SECOND, realtime_ns: seconds * SECOND }
    }

    fn take(following: &mut Following, inventory: &Inventory, seconds: u64) -> Update {
        following.take(inventory.clone(), &BTreeSet::new(), at(seconds)).unwrap()
    }

    fn addresses(update: &Update) -> (String, String) {
        let filter = update.filter.as_ref().unwrap();
        let all = |side: &podtrace_protocol::frame::Side| {
            side.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        (all(&filter.from), all(&filter.to))
    }

    fn whats(update: &Update) -> Vec<(&str, ChangeKind)> {
        update.changes.iter().map(|change| (change.about.as_str(), change.kind)).collect()
    }

    #[test]
    fn a_pod_with_another_address_is_looked_for_at_both_for_a_while() {
        let before = cluster(&["a 10.42.0.1 node1", "b 10.42.1.1 node2"], &[]);
        let mut following = following("a", "b", &before);
        let moved = cluster(&["a 10.42.0.9 node1", "b 10.42.1.1 node2"], &[]);
        let update = take(&mut following, &moved, 5);
        assert_eq!(whats(&update), [("default/a", ChangeKind::Moved)]);
        assert_eq!(update.changes[0].was.as_ref().unwrap().ips[0].to_string(), "10.42.0.1");
        assert_eq!(addresses(&update), ("10.42.0.9 10.42.0.1".to_owned(), "10.42.1.1".to_owned()));
        assert_eq!(following.next_expiry(), Some(15 * SECOND));
        assert!(following.expire(at(14)).is_none());
        assert_eq!(addresses(&following.expire(at(15)).unwrap()).0, "10.42.0.9");
        assert_eq!(following.next_expiry(), None);
    }

    #[test]
    fn an_address_that_another_takes_is_looked_for_no_more() {
        let before = cluster(&["a 10.42.0.1 node1", "b 10.42.1.1 node2"], &[]);
        let mut following = following("a", "b", &before);
        let moved = cluster(&["a 10.42.0.9 node1", "b 10.42.1.1 node2", "c 10.42.0.1 node1"], &[]);
        assert_eq!(addresses(&take(&mut following, &moved, 5)).0, "10.42.0.9");
        assert_eq!(following.next_expiry(), None);
    }

    #[test]
    fn a_pod_that_goes_is_told_once_and_again_when_it_is_back() {
        let before = cluster(&["a 10.42.0.1 node1", "b 10.42.1.1 node2"], &[]);
        let mut following = following("a", "b", &before);
        let gone = cluster(&["b 10.42.1.1 node2"], &[]);
        let update = take(&mut following, &gone, 5);
        assert_eq!(whats(&update), [("default/a", ChangeKind::Gone)]);
        // What is sent to it is still of interest.
        assert!(update.filter.is_none() && following.next_expiry().is_none());
        let other = cluster(&["b 10.42.1.1 node2", "c 10.42.0.7 node1"], &[]);
        assert_eq!(whats(&take(&mut following, &other, 6)), []);
        let back = cluster(&["a 10.42.2.1 node3", "b 10.42.1.1 node2"], &[]);
        let update = take(&mut following, &back, 7);
        assert_eq!(whats(&update), [("default/a", ChangeKind::Back)]);
        assert_eq!(addresses(&update).0, "10.42.2.1 10.42.0.1");
        assert_eq!(following.nodes(), ["node2", "node3"]);
        assert_eq!(following.on_node("node3").len(), 1);
        assert_eq!(following.configuration("node3").unwrap().tapped_pods, ["default/a"]);
    }

    #[test]
    fn a_rollout_is_told_by_its_pods() {
        let before = cluster(&["a 10.42.0.1 node1", "w1 10.42.0.2 node1", "w2 10.42.1.2 node2"], &["w1"]);
        let mut following = following("a", "svc/web", &before);
        let after = cluster(&["a 10.42.0.1 node1", "w1 10.42.0.2 node1", "w2 10.42.1.2 node2"], &["w2"]);
        let update = take(&mut following, &after, 1);
        assert_eq!(whats(&update), [("svc/default/web", ChangeKind::Endpoints)]);
        assert_eq!(
            (&update.changes[0].added[..], &update.changes[0].removed[..]),
            (&["default/w2".to_owned()][..], &["default/w1".to_owned()][..])
        );
        // It has its address still, and is no other: what it has begun to answer is under way.
        assert_eq!(addresses(&update).1, "10.96.0.20 10.42.1.2 10.42.0.2");
        assert_eq!(following.configuration("node2").unwrap().tapped_pods, ["default/w2"]);
    }

    #[test]
    fn a_pod_made_anew_at_its_address_is_told() {
        let cluster = cluster(&["a 10.42.0.1 node1", "b 10.42.1.1 node2"], &[]);
        let mut following = following("a", "b", &cluster);
        let renewed = BTreeSet::from(["default/a".to_owned(), "default/other".to_owned()]);
        let update = following.take(cluster.clone(), &renewed, at(1)).unwrap();
        assert_eq!(whats(&update), [("default/a", ChangeKind::Renewed)]);
        assert!(following.take(cluster, &BTreeSet::new(), at(2)).is_none());
    }

    #[test]
    fn what_is_no_end_changes_names_and_nothing_else() {
        let before = cluster(&["a 10.42.0.1 node1", "b 10.42.1.1 node2"], &[]);
        let mut following = following("a", "b", &before);
        let after = cluster(&["a 10.42.0.1 node1", "b 10.42.1.1 node2", "c 10.42.0.3 node1"], &[]);
        let update = take(&mut following, &after, 1);
        assert!(update.changes.is_empty() && update.filter.is_none());
        assert_eq!(update.delta.pods.len(), 1);
    }
}
