//! The mark that a packet has when it leaves, where nothing saw it: rules before that set it.
//!
//! kube-proxy and others mark where the destination is translated what is to be masqueraded, and take the mark away
//! again with that. Without hooks of the stack nobody sees it in between; but what the packet was before is known, and
//! which of the rules that choose by chance it was.

use super::find::{Finder, families};
use super::model::{Action, Hook};
use super::question::{Entered, Translation};
use super::walk::Walk;

/// Where destinations are translated.
const TRANSLATING: i32 = -100;

impl Finder {
    /// The mark before the source is translated; `None` if it cannot be told.
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
            for (base, chain) in self.index.called(&self.rules, &[*hook], families(&question.before)) {
                let translates = base.nat && number == 0;
                // Other rules that translate come later, or are not for this packet.
                if (base.nat && !(translates && is_translated)) || !self.index.marks(chain) {
                    continue;
                }
                let translated = number > 0 || base.priority > TRANSLATING;
                let packet = if translated { question.before } else { entered.packet };
                let mut known = self.known(packet, question);
                known.mark = mark;
                if number == 0 {
                    known.out_device = None;
                }
                let mut walk = Walk::new(&self.rules, &self.index, known, &wanted);
                walk.called(base, chain);
                if walk.incomplete {
                    return None;
                }
                mark = if translates && !walk.found.is_empty() {
                    let mut marks = walk.found.iter().map(|found| found.mark);
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
