//! Which rule translated or dropped a packet: questions to a rule set.
//!
//! A trace knows the packet before and after, not the rule. For a translation, the rules whose action can have changed
//! the one into the other are looked up first; then the packet is followed through the chains of the hook, along jumps
//! that lead to these only. For a drop, it is followed through all chains of the hook. What may have issued its verdict
//! ([`Walk`]) becomes one [`Attribution`]: of one rule, or of what several candidates have in common.

use std::collections::HashSet;
use std::net::IpAddr;

use super::attribution::{Attribution, Kind};
use super::evaluate::{Known, is_local};
use super::index::{ChainId, Index, RuleId};
use super::model::{Action, Element, Family, Hook, Nat, Rules};
use super::question::{End, Loss, Packet, Translation};
use super::service;
use super::walk::{Candidate, Decision, Walk};

/// What may drop a packet at one layer.
struct Asked {
    candidates: Vec<Candidate>,
    /// Rules were not visited.
    incomplete: bool,
    /// The last candidate certainly drops it.
    certain: bool,
}

/// A rule set with its look-up tables, ready for questions.
#[derive(Clone, Debug, Default)]
pub struct Finder {
    pub(super) rules: Rules,
    pub(super) index: Index,
}

impl Finder {
    /// Builds the look-up tables of a rule set.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        let index = Index::new(&rules);
        Self { rules, index }
    }

    /// The rule set.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The rule that translated a connection's first packet; `None` if no rule can have. The answer holds for the whole
    /// connection. Takes microseconds, even with tens of thousands of rules.
    #[must_use]
    pub fn translated(&self, question: &Translation<'_>) -> Option<Attribution> {
        let Translation { end, before, after, in_device, out_device, mark, entered: _ } = *question;
        let mut known = self.known(before, question);
        if mark.is_none() && end == End::Source {
            known.mark = self.mark_on_leaving(question);
        }
        let possible = |action: &Action| can_have_translated(action, end, &before, &after, &self.rules.local);
        let candidates: HashSet<RuleId> = match end {
            End::Destination => self.candidates_for_destination(&before, &after),
            End::Source => self.possible(self.index.sources(), possible),
        };
        if candidates.is_empty() {
            return None;
        }
        let wanted = |rule: RuleId, _: &Action| candidates.contains(&rule);
        // A packet passes one of these hooks, never two.
        let hooks: &[Hook] = match (end, in_device, out_device) {
            (End::Destination, Some(_), _) => &[Hook::Prerouting],
            (End::Destination, None, _) => &[Hook::Prerouting, Hook::Output],
            (End::Source, _, Some(_)) => &[Hook::Postrouting],
            (End::Source, _, None) => &[Hook::Postrouting, Hook::Input],
        };
        let mut found = Vec::new();
        let mut incomplete = self.has_gap(&before);
        for hook in hooks {
            let mut walk = Walk::new(&self.rules, &self.index, known, &wanted);
            walk.allowed_jumps = Some(self.index.leading_to(candidates.iter().map(|(chain, _)| *chain)));
            for (base, chain) in self.index.base_chains(&self.rules, &[*hook], families(&before)) {
                if base.nat && walk.walk_base_chain(base, chain) {
                    break;
                }
            }
            incomplete |= walk.incomplete;
            found.extend(walk.candidates);
        }
        self.attribution(&found, incomplete)
    }

    /// Whether a rule certainly changes the destination of a packet that comes to the node, to an address that is not the
    /// node's own. Of a connection's first packet.
    #[must_use]
    pub fn sends_on(&self, packet: Packet) -> bool {
        let local = &self.rules.local;
        let known =
            Known { packet, in_device: None, out_device: None, mark: None, state: Some("new"), local };
        let leads_away = |action: &Action| match action {
            Action::Dnat(Some(Nat { addresses: Some((first, _)), .. })) => {
                is_local(local, *first) == Some(false)
            }
            _ => false,
        };
        let wanted = |_: RuleId, action: &Action| leads_away(action);
        let mut walk = Walk::new(&self.rules, &self.index, known, &wanted);
        let chains = self.index.base_chains(&self.rules, &[Hook::Prerouting], families(&packet));
        // A certain decision ends the walk.
        chains.into_iter().any(|(base, chain)| base.nat && walk.walk_base_chain(base, chain))
            && !self.has_gap(&packet)
    }

    /// The rule that certainly changes the source of a packet that leaves by a device without a mark, whether one was sent
    /// or not. Of a connection's first packet.
    #[must_use]
    pub fn hides(&self, packet: Packet, out_device: &str) -> Option<Attribution> {
        let local = &self.rules.local;
        let (out_device, mark) = (Some(out_device), Some(0));
        let known = Known { packet, in_device: None, out_device, mark, state: Some("new"), local };
        let wanted = |_: RuleId, action: &Action| matches!(action, Action::Masquerade | Action::Snat(_));
        let mut walk = Walk::new(&self.rules, &self.index, known, &wanted);
        let chains = self.index.base_chains(&self.rules, &[Hook::Postrouting], families(&packet));
        let certain = chains.into_iter().any(|(base, chain)| base.nat && walk.walk_base_chain(base, chain));
        let last = walk.candidates.last().filter(|_| certain && !walk.incomplete)?;
        self.attribution(std::slice::from_ref(last), false)
    }

    /// The rule or policy that dropped a packet; `None` if none can have.
    #[must_use]
    pub fn dropped(&self, question: &Loss<'_>) -> Option<Attribution> {
        let asked = self.walk_for_drop(question);
        let incomplete = self.has_gap(&question.packet) || asked.iter().any(|asked| asked.incomplete);
        let found: Vec<_> = asked.into_iter().flat_map(|asked| asked.candidates).collect();
        self.attribution(&found, incomplete)
    }

    /// The rule or policy that drops every such packet, whether one was sent or not; `None` if none certainly does. A rule
    /// that asks for what is not known of the packet, such as its port, is no answer, and neither is one behind a rule that
    /// may accept the packet.
    #[must_use]
    pub fn drops(&self, question: &Loss<'_>) -> Option<Attribution> {
        let asked = self.walk_for_drop(question);
        let certain = asked.into_iter().find(|asked| asked.certain && !asked.incomplete)?;
        // A chain's certain verdict is its last candidate.
        self.attribution(certain.candidates.last().map(std::slice::from_ref)?, false)
    }

    /// Follows a packet through the chains of a hook, those of IP and of each lower layer that were asked about.
    fn walk_for_drop(&self, question: &Loss<'_>) -> Vec<Asked> {
        let Loss { hook, bridge, packet, in_device, out_device, mark, state } = *question;
        let known = Known { packet, in_device, out_device, mark, state, local: &self.rules.local };
        let wanted = |_: RuleId, action: &Action| action.drops();
        let mut all = Vec::new();
        let at_device = matches!(hook, Hook::Ingress | Hook::Egress);
        for (asked, families) in [
            (bridge != Some(true), families(&packet)),
            (bridge != Some(false) && !at_device, &[Family::Bridge]),
            (at_device, &[Family::Netdev]),
        ] {
            if !asked {
                continue;
            }
            let mut walk = Walk::new(&self.rules, &self.index, known, &wanted);
            walk.want_policies = true;
            let mut certain = false;
            for (base, chain) in self.index.base_chains(&self.rules, &[hook], families) {
                // nat chains see only a connection's first packet.
                let sees = !base.nat || state.is_none_or(|state| state == "new");
                let devices = &self.index.chain(&self.rules, chain).devices;
                let is_called = |device: Option<&str>| {
                    devices.is_empty()
                        || device.is_none_or(|device| devices.iter().any(|known| known == device))
                };
                let sees = sees && (!at_device || is_called(in_device.or(out_device)));
                if sees && walk.walk_base_chain(base, chain) {
                    certain = true;
                    break;
                }
            }
            all.push(Asked { candidates: walk.candidates, incomplete: walk.incomplete, certain });
        }
        all
    }

    /// What is known of the packet before its translation.
    pub(super) fn known<'a>(&'a self, packet: Packet, question: &Translation<'a>) -> Known<'a> {
        Known {
            packet,
            in_device: question.in_device,
            out_device: question.out_device,
            mark: question.mark,
            // nat chains see only a connection's first packet.
            state: Some("new"),
            local: &self.rules.local,
        }
    }

    /// Rules that can have changed the destination of `before` to that of `after`.
    pub(super) fn candidates_for_destination(&self, before: &Packet, after: &Packet) -> HashSet<RuleId> {
        let local = &self.rules.local;
        let possible = |action: &Action| can_have_translated(action, End::Destination, before, after, local);
        self.possible(self.index.to(after.destination), possible)
    }

    fn possible(
        &self,
        rules: impl Iterator<Item = RuleId>,
        possible: impl Fn(&Action) -> bool,
    ) -> HashSet<RuleId> {
        rules.filter(|rule| possible(&self.index.rule(&self.rules, *rule).action)).collect()
    }

    /// Whether rules for such a packet could not be read.
    fn has_gap(&self, packet: &Packet) -> bool {
        self.rules.gaps.iter().any(|gap| gap.family.is_none_or(|family| families(packet).contains(&family)))
    }

    fn attribution(&self, found: &[Candidate], incomplete: bool) -> Option<Attribution> {
        let one: Vec<_> = found.iter().map(|found| self.single(found)).collect();
        let mut decisions: Vec<Decision> = Vec::new();
        for found in found {
            if !decisions.contains(&found.decision) {
                decisions.push(found.decision);
            }
        }
        let mut all = one.into_iter();
        let mut merged = all.next()?;
        for other in all {
            if decisions.len() == 1 {
                merged.same_rule(&other);
            } else {
                merged.other_rule(&other);
            }
        }
        merged.candidates = u32::try_from(decisions.len()).unwrap_or(u32::MAX);
        merged.certain = decisions.len() == 1 && !incomplete;
        Some(merged)
    }

    /// The attribution to one candidate.
    fn single(&self, found: &Candidate) -> Attribution {
        let (chain, step) = match found.decision {
            Decision::Rule(step) => (step.0.0, Some(step)),
            Decision::Policy(chain) => (chain, None),
        };
        let table = self.index.table_of(&self.rules, chain);
        let name = |chain: ChainId| self.index.chain(&self.rules, chain).name.as_str();
        let steps: Vec<_> = found.jumps.iter().chain(&step).collect();
        let mut chains: Vec<_> = steps.iter().map(|((chain, _), _)| name(*chain)).collect();
        if step.is_none() {
            chains.push(name(chain));
        }
        // The comments of the rules and elements that jumped here.
        let mut comments = Vec::new();
        for (rule, element) in &steps {
            comments.extend(self.index.rule(&self.rules, *rule).comment.as_deref());
            comments.extend(self.element(*rule, *element).and_then(|element| element.comment.as_deref()));
        }
        let named = service::named(&table.name, &chains, comments.iter().copied());
        let rule = step.map(|(rule, _)| self.index.rule(&self.rules, rule));
        let element = step.and_then(|(rule, element)| self.element(rule, element));
        let action = element.and_then(|element| element.action.as_ref()).or(rule.map(|rule| &rule.action));
        let endpoints = named
            .as_ref()
            .and_then(|_| self.endpoints(found.jumps.last().map(|step| step.0.0), chain, action));
        // The base chain goes without saying, unless it is the only one.
        let hook = self
            .index
            .chain(&self.rules, steps.first().map_or(chain, |step| step.0.0))
            .base
            .map(|base| base.hook);
        if chains.len() > 1 && hook.is_some() {
            chains.remove(0);
        }
        let own_comment = element.and_then(|element| element.comment.as_ref());
        Attribution {
            kind: action.map_or(Kind::Policy, kind),
            framework: Some(table.framework),
            family: Some(table.family),
            table: Some(table.name.clone()),
            hook,
            chains: chains.into_iter().map(ToOwned::to_owned).collect(),
            rule: rule.map(|rule| rule.text.clone()).filter(|text| !text.is_empty()),
            handle: rule.and_then(|rule| rule.handle),
            comment: rule.and_then(|rule| rule.comment.as_ref()).or(own_comment).cloned(),
            service: named.as_ref().map(|named| named.service.clone()),
            port: named.and_then(|named| named.port),
            endpoints,
            candidates: 1,
            certain: true,
        }
    }

    fn element(&self, rule: RuleId, element: Option<usize>) -> Option<&Element> {
        let Action::Verdicts(_, elements) = &self.index.rule(&self.rules, rule).action else { return None };
        super::index::any_listed(elements, self.index.table_of(&self.rules, rule.0)).get(element?)
    }

    /// Number of chains with a destination that the Service's chain chooses among.
    fn endpoints(&self, chooser: Option<ChainId>, chain: ChainId, action: Option<&Action>) -> Option<u32> {
        if !matches!(action, Some(Action::Dnat(_))) {
            return None;
        }
        let destinations = |chain: ChainId| {
            let rules = self.index.chain(&self.rules, chain).rules.iter();
            rules.filter(|rule| matches!(rule.action, Action::Dnat(_))).count()
        };
        // With one endpoint there may be no chain to choose.
        let own = destinations(chain);
        let chosen: HashSet<_> = chooser
            .into_iter()
            .flat_map(|chooser| &self.index.out[chooser])
            .map(|edge| edge.to)
            .filter(|to| destinations(*to) > 0)
            .collect();
        u32::try_from(own.max(chosen.len())).ok()
    }
}

pub(super) fn families(packet: &Packet) -> &'static [Family] {
    if packet.source.is_ipv4() { &[Family::Ip, Family::Inet] } else { &[Family::Ip6, Family::Inet] }
}

fn kind(action: &Action) -> Kind {
    match action {
        Action::Dnat(_) => Kind::Dnat,
        Action::Snat(_) => Kind::Snat,
        Action::Masquerade => Kind::Masquerade,
        Action::Redirect(_) => Kind::Redirect,
        Action::Reject => Kind::Reject,
        _ => Kind::Drop,
    }
}

/// Whether an action can have changed this end of `before` into that of `after`.
fn can_have_translated(action: &Action, end: End, before: &Packet, after: &Packet, local: &[IpAddr]) -> bool {
    let (address, port, previous, previous_port) = match end {
        End::Destination => {
            (after.destination, after.destination_port, before.destination, before.destination_port)
        }
        End::Source => (after.source, after.source_port, before.source, before.source_port),
    };
    let becomes = |nat: &Option<Nat>| {
        nat.is_none_or(|Nat { addresses, ports }| {
            let fits = |(first, last): (IpAddr, IpAddr)| (first..=last).contains(&address);
            // The kernel changes a source port that is taken.
            let keeps = end == End::Source || port == previous_port;
            addresses.map_or(address == previous, fits) && port_fits(ports, port).unwrap_or(keeps)
        })
    };
    match (end, action) {
        (End::Destination, Action::Dnat(nat)) | (End::Source, Action::Snat(nat)) => becomes(nat),
        (End::Destination, Action::Redirect(ports)) => {
            is_local(local, address) != Some(false)
                && port_fits(*ports, port).unwrap_or(port == previous_port)
        }
        (End::Source, Action::Masquerade) => is_local(local, address) != Some(false),
        _ => false,
    }
}

/// Whether a port is in a range; `None` if either is unknown.
fn port_fits(ports: Option<(u16, u16)>, port: Option<u16>) -> Option<bool> {
    let ((first, last), port) = ports.zip(port)?;
    Some((first..=last).contains(&port))
}
