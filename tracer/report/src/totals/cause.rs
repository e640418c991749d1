//! Causes: paths that failed at an equal place for an equal reason, by an equal rule, with equal advice.
//!
//! Reasons and advice may name a packet's own addresses and ports. So two of them are equal if their words without digits are.

use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHasher};

use super::finished::Cause;
use super::numbers::NumberSet;
use podtrace_path::{Drop, Evidence, Hop, Path, Verdict};

/// How many causes are kept one by one.
const LISTED: usize = 128;

/// What makes causes equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    verdict: Verdict,
    node: Option<Arc<str>>,
    device: Option<Arc<str>>,
    pod: Option<Arc<str>>,
    /// The kernel's reason, and the function that dropped the packet.
    drop: Option<(Option<String>, Option<String>)>,
    rule: Option<String>,
    /// Digest of the words without digits.
    words: u64,
}

/// What a path that failed has of its cause.
struct Parts<'a> {
    hop: Option<&'a Hop>,
    drop: Option<&'a Drop>,
    advice: Option<&'a str>,
}

impl<'a> Parts<'a> {
    fn of(path: &'a Path) -> Self {
        let dropped = path.hops.iter().rev().find(|hop| hop.drop.is_some());
        let ended_here = dropped.filter(|_| path.verdict != Verdict::Vanished);
        let hop =
            ended_here.or_else(|| path.hops.iter().rev().find(|hop| hop.evidence == Evidence::Observed));
        let drop = ended_here.and_then(|hop| hop.drop.as_ref());
        let advice = drop.and_then(|drop| drop.advice.as_deref()).or(path.advice.as_deref());
        Self { hop, drop, advice }
    }
}

/// What the cause of a path's failure is told from others by; `None` if it did not fail.
pub(super) fn key(path: &Path) -> Option<Key> {
    if matches!(path.verdict, Verdict::Delivered | Verdict::Open) {
        return None;
    }
    let Parts { hop, drop, advice } = Parts::of(path);
    Some(Key {
        verdict: path.verdict,
        node: hop.map(|hop| hop.node.clone()),
        device: hop.and_then(|hop| hop.device.clone()),
        pod: hop.filter(|_| drop.is_some()).and_then(|hop| hop.pod.clone()),
        drop: drop.map(|drop| (drop.reason.clone(), drop.location.clone())),
        rule: drop.and_then(|drop| drop.rule.as_deref()).map(ToString::to_string),
        words: words([path.reason.as_deref(), advice]),
    })
}

/// Digest of the words without digits.
fn words<const N: usize>(texts: [Option<&str>; N]) -> u64 {
    let mut digest = FxHasher::default();
    for text in texts {
        let words = text.unwrap_or_default().split([' ', '`']);
        words
            .filter(|word| !word.contains(|c: char| c.is_ascii_digit()))
            .for_each(|word| word.hash(&mut digest));
        digest.write_u8(0);
    }
    digest.finish()
}

/// All causes of a trace.
#[derive(Clone, Debug, Default)]
pub(super) struct Causes {
    by_key: FxHashMap<Key, usize>,
    known: Vec<(Cause, NumberSet)>,
    unlisted: u64,
}

impl Causes {
    /// Adds a path. Returns its cause's place among all, in the order in which they were seen first; `None` if it did not fail, or
    /// beyond the bound.
    pub(super) fn add(&mut self, path: &Path) -> Option<usize> {
        let key = key(path)?;
        let index = match self.by_key.get(&key) {
            Some(index) => *index,
            None if self.known.len() >= LISTED => {
                self.unlisted += 1;
                return None;
            }
            None => {
                let number = self.known.len();
                self.known.push((cause(path, &key, number as u64 + 1), NumberSet::default()));
                self.by_key.insert(key, number);
                number
            }
        };
        let (cause, flows) = &mut self.known[index];
        cause.count += 1;
        cause.first_at = cause.first_at.min(path.started_at);
        cause.last_at = cause.last_at.max(path.started_at);
        flows.add(path.flow.id);
        cause.flows = flows.count();
        Some(index)
    }

    /// Paths of causes that are not listed.
    pub(super) fn unlisted(&self) -> u64 {
        self.unlisted
    }

    /// The causes, the most frequent first.
    pub(super) fn finished(&self) -> Vec<Cause> {
        let mut causes: Vec<_> = self.known.iter().map(|(cause, _)| cause.clone()).collect();
        causes.sort_by_key(|cause| (u64::MAX - cause.count, cause.id));
        causes
    }
}

fn cause(path: &Path, key: &Key, id: u64) -> Cause {
    let Parts { drop, advice, .. } = Parts::of(path);
    Cause {
        id,
        verdict: path.verdict,
        node: key.node.clone(),
        device: key.device.clone(),
        pod: key.pod.clone(),
        drop: drop.cloned(),
        reason: path.reason.clone(),
        advice: advice.map(str::to_owned),
        count: 0,
        flows: 0,
        first_at: path.started_at,
        last_at: path.started_at,
        example: path.id,
        example_flow: path.flow.id,
        from: path.from.clone(),
        to: path.to.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;

    fn added(paths: impl IntoIterator<Item = Path>) -> Causes {
        let mut causes = Causes::default();
        paths.into_iter().for_each(|path| {
            causes.add(&path);
        });
        causes
    }

    #[test]
    fn equal_failures_are_one_cause() {
        let dropped = |number: u64| {
            let mut path = samples::dropped();
            (path.id, path.flow.id, path.started_at) = (number, number / 10, number);
            path
        };
        let causes =
            added((1..=4_448).map(dropped).chain([samples::vanished(), samples::cross_node_request()]));
        let [first, second] = causes.finished().try_into().unwrap();
        assert_eq!((first.count, first.flows, first.example), (4_448, 445, 1));
        assert_eq!((first.first_at, first.last_at), (1, 4_448));
        assert_eq!((first.verdict, second.verdict, second.count), (Verdict::Dropped, Verdict::Vanished, 1));
        assert!(first.drop.is_some() && first.advice.is_some() && first.node.is_some());
    }

    #[test]
    fn numbers_in_words_do_not_make_another_cause_but_words_do() {
        let said = |advice: &str| {
            let mut path = samples::dropped();
            path.hops
                .iter_mut()
                .filter_map(|hop| hop.drop.as_mut())
                .for_each(|drop| drop.advice = Some(advice.to_owned()));
            path
        };
        let causes = added(["listens on tcp port 80", "listens on tcp port 81", "no route"].map(said));
        assert_eq!(causes.finished().iter().map(|cause| cause.count).collect::<Vec<_>>(), [2, 1]);
    }

    #[test]
    fn causes_beyond_the_bound_are_counted() {
        let causes = added((0..LISTED + 7).map(|number| {
            let mut path = samples::dropped();
            path.hops.iter_mut().for_each(|hop| hop.device = Some(format!("eth{number}").into()));
            path
        }));
        assert_eq!((causes.finished().len(), causes.unlisted()), (LISTED, 7));
    }
}
