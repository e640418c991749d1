//! Answers that reach their receiver without being translated back: it has no connection with whoever sent them.
//!
//! That a request was translated is another path's knowledge, so translations are remembered by flow.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use podtrace_path::{Action, Direction, NatKind, Path, Verdict};

use super::facts::Facts;
use super::words::quoted;

/// Flows remembered at most; the oldest are forgotten first.
const FLOWS: usize = 4096;

/// By which path of a namespace bridged packets are shown to connection tracking, or are not.
const BRIDGED: [&str; 2] = ["bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables"];

/// The translations of requests, by the numbers of their flows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Translations(BTreeMap<u64, Seen>);

/// One end before and after its translation.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    node: Arc<str>,
    before: (IpAddr, Option<u16>),
    after: (IpAddr, Option<u16>),
}

impl Translations {
    /// Remembers how a request was translated.
    pub(super) fn learn(&mut self, path: &Path) {
        if path.flow.direction != Direction::Request {
            return;
        }
        let translation = path.hops.iter().find_map(|hop| {
            let nat = hop.nat.as_ref().filter(|nat| nat.kind == NatKind::Dnat)?;
            let (before, after) = (nat.before, nat.after);
            Some(Seen {
                node: hop.node.clone(),
                before: (before.dst, before.dport),
                after: (after.dst, after.dport),
            })
        });
        let Some(seen) = translation else { return };
        self.0.insert(path.flow.id, seen);
        if self.0.len() > FLOWS {
            self.0.pop_first();
        }
    }

    /// Why an answer was refused, if it was because it was not translated back.
    pub(super) fn explain(&self, path: &Path, facts: &Facts) -> Option<String> {
        let is_answer = path.flow.direction == Direction::Reply
            && matches!(path.verdict, Verdict::Dropped | Verdict::Rejected)
            && path.hops.last().is_some_and(|last| last.drop.is_some() && last.pod.is_some());
        let Seen { node, before, after } = self.0.get(&path.flow.id).filter(|_| is_answer)?;
        let is_untranslated =
            path.hops.iter().all(|hop| hop.nat.is_none()) && (path.from.ip, path.from.port) == *after;
        if !is_untranslated {
            return None;
        }
        let known = format!(
            "the request was translated on {} from {} to {}, and this answer was not translated back, so that {} has no \
             connection that it belongs to",
            quoted(node),
            written(*before),
            written(*after),
            path.to.pod.as_deref().map_or_else(|| path.to.ip.to_string(), quoted),
        );
        let here = || path.hops.iter().filter(|hop| hop.node == *node);
        let is_bridged =
            here().any(|hop| hop.action == Action::Bridge) && !here().any(|hop| hop.action == Action::Route);
        let [of_ipv4, of_ipv6] = BRIDGED;
        let setting = if after.0.is_ipv4() { of_ipv4 } else { of_ipv6 };
        let value = facts.node(node).and_then(|known| known.topology.node()?.state.sysctls.get(setting));
        if is_bridged && value == Some(&0) {
            return Some(format!(
                "{known}: bridged packets of {node} do not pass connection tracking, because net/{setting} is 0. On \
                 {node}: `sysctl net/{setting}`; to fix it: `sysctl -w net/{setting}=1`",
                node = quoted(node)
            ));
        }
        let (raw, family) =
            if after.0.is_ipv4() { ("iptables-save", "") } else { ("ip6tables-save", " -f ipv6") };
        Some(format!(
            "{known}. Possible: a rule leaves it untracked (`notrack`), connection tracking calls it invalid, or the \
             connection's entry is gone. On {}: `nft list ruleset`, `{raw} -t raw`, `conntrack -L{family} -d {}`",
            quoted(node),
            before.0
        ))
    }
}

fn written((address, port): (IpAddr, Option<u16>)) -> String {
    match port {
        Some(port) => std::net::SocketAddr::new(address, port).to_string(),
        None => address.to_string(),
    }
}
