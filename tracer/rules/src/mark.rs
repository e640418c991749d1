//! Infers the mark that a packet has before its source is translated, from the rules that it passed before.
//!
//! kube-proxy and others mark packets at prerouting and masquerade marked ones at postrouting, where they remove the mark.
//! Without hooks of the network stack, no event shows the mark in between. The packet before and after its translation is
//! known, which decides between rules that choose at random: following it through the chains gives the mark.

use super::find::{Finder, families};
use super::model::{Action, Hook};
use super::question::{Entered, Translation};
use super::walk::Walk;

/// Priority of destination NAT (`NF_IP_PRI_NAT_DST`): chains above it see the translated packet.
const NAT_DESTINATION: i32 = -100;

impl Finder {
    /// The mark before the source is translated; `None` if it is unknown.
    pub(super) fn mark_on_leaving(&self, question: &Translation<'_>) -> Option<u32> {
        let entered = question.entered?;
        let forwarded =
            || self.mark_after(question, &entered, &[Hook::Prerouting, Hook::Forward, Hook::Postrouting]);
        if question.in_device.is_some() {
            return forwarded();
        }
        let own = self.mark_after(question, &entered, &[Hook::Output, Hook::Postrouting]);
        own.filter(|own| forwarded() == Some(*own))
    }

    fn mark_after(&self, question: &Translation<'_>, entered: &Entered, hooks: &[Hook]) -> Option<u32> {
        let destination = self.candidates_for_destination(&entered.packet, &question.before);
        let is_translated = (entered.packet.destination, entered.packet.destination_port)
            != (question.before.destination, question.before.destination_port);
        let wanted = |rule, _: &Action| destination.contains(&rule);
        let mut mark = Some(entered.mark?);
        for (number, hook) in hooks.iter().enumerate() {
            for (base, chain) in self.index.base_chains(&self.rules, &[*hook], families(&question.before)) {
                let translates = base.nat && number == 0;
                // Other nat chains come later, or do not see this packet.
                if (base.nat && !(translates && is_translated)) || !self.index.marks(chain) {
                    continue;
                }
                let translated = number > 0 || base.priority > NAT_DESTINATION;
                let packet = if translated { question.before } else { entered.packet };
                let mut known = self.known(packet, question);
                known.mark = mark;
                if number == 0 {
                    known.out_device = None;
                }
                let mut walk = Walk::new(&self.rules, &self.index, known, &wanted);
                walk.walk_base_chain(base, chain);
                if walk.incomplete {
                    return None;
                }
                mark = if translates && !walk.candidates.is_empty() {
                    let mut marks = walk.candidates.iter().map(|found| found.mark);
                    let first = marks.next().flatten();
                    first.filter(|first| marks.all(|mark| mark == Some(*first)))
                } else {
                    walk.known.mark
                };
            }
        }
        mark
    }
}
