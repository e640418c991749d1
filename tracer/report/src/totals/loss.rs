//! Losses: causes of failures with whom they hit, and one packet of each in full.
//!
//! Input: finished paths with their advice. Output: a [`Loss`] for each cause. Traffic of one pair of ends counts together
//! whatever its source ports are. Bounded: of each cause, the first [`PAIRS`] pairs; the packets of others are counted.

use rustc_hash::FxHashMap;

use super::cause::Causes;
use super::finished::{Cause, Loss, Pair};
use podtrace_path::{End, Path, Protocol};

/// How many pairs of ends are kept of each cause.
const PAIRS: usize = 256;

/// Sums what failed.
#[derive(Clone, Debug, Default)]
pub struct Losses {
    causes: Causes,
    /// In the order of the causes' numbers.
    hit: Vec<Hit>,
    /// Paths that were added, whatever their end.
    paths: u64,
    /// Those that failed.
    failed: u64,
}

/// Whom a cause hits.
#[derive(Clone, Debug)]
struct Hit {
    by_ends: FxHashMap<(Protocol, String, String), usize>,
    pairs: Vec<Pair>,
    unlisted: u64,
    example: Path,
}

impl Losses {
    /// Adds a finished path with its advice.
    pub fn add(&mut self, path: &Path) {
        self.paths += 1;
        if super::cause::key(path).is_none() {
            return;
        }
        self.failed += 1;
        let Some(index) = self.causes.add(path) else { return };
        if index == self.hit.len() {
            self.hit.push(Hit::new(path));
        }
        if let Some(hit) = self.hit.get_mut(index) {
            hit.add(path);
        }
    }

    /// How many paths were added.
    #[must_use]
    pub fn paths(&self) -> u64 {
        self.paths
    }

    /// How many of them failed.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed
    }

    /// Paths that failed for causes beyond the bound.
    #[must_use]
    pub fn unlisted(&self) -> u64 {
        self.causes.unlisted()
    }

    /// How many causes there are.
    #[must_use]
    pub fn causes(&self) -> usize {
        self.hit.len()
    }

    /// The first packet of a cause, by the number of its path.
    #[must_use]
    pub fn example(&self, path: u64) -> Option<&Path> {
        self.hit.iter().map(|hit| &hit.example).find(|example| example.id == path)
    }

    /// The causes, the most frequent first.
    #[must_use]
    pub fn finished(&self) -> Vec<Loss> {
        self.causes.finished().into_iter().filter_map(|cause| self.loss(cause)).collect()
    }

    fn loss(&self, cause: Cause) -> Option<Loss> {
        let index = usize::try_from(cause.id.checked_sub(1)?).ok()?;
        let Hit { pairs, unlisted, example, .. } = self.hit.get(index)?;
        let mut pairs = pairs.clone();
        // Stable: of equally many, the first ones.
        pairs.sort_by_key(|pair| std::cmp::Reverse(pair.count));
        Some(Loss { cause, pairs, unlisted_pairs: *unlisted, path: example.clone() })
    }
}

impl Hit {
    fn new(path: &Path) -> Self {
        Self { by_ends: FxHashMap::default(), pairs: Vec::new(), unlisted: 0, example: path.clone() }
    }

    fn add(&mut self, path: &Path) {
        let Path { from, to, .. } = path;
        let key = (path.proto, name(from), name(to) + &port(to));
        let index = match self.by_ends.get(&key) {
            Some(index) => *index,
            None if self.pairs.len() >= PAIRS => {
                self.unlisted += 1;
                return;
            }
            None => {
                self.pairs.push(Pair {
                    proto: path.proto,
                    from: End { port: None, ..from.clone() },
                    to: to.clone(),
                    count: 0,
                });
                self.by_ends.insert(key, self.pairs.len() - 1);
                self.pairs.len() - 1
            }
        };
        self.pairs[index].count += 1;
    }
}

/// Pods and Services are theirs whatever their addresses are.
fn name(end: &End) -> String {
    match (&end.service, &end.pod) {
        (Some(service), _) => format!("svc/{service}"),
        (None, Some(pod)) => pod.to_string(),
        (None, None) => end.ip.to_string(),
    }
}

/// Ports above these are picked for one connection each: they make no other pair.
const EPHEMERAL: u16 = 32_768;

fn port(end: &End) -> String {
    end.port.filter(|port| *port < EPHEMERAL).map_or_else(String::new, |port| format!(":{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;

    #[test]
    fn a_loss_says_whom_it_hit_and_has_one_packet() {
        let mut losses = Losses::default();
        for id in 1..=10 {
            let mut path = samples::dropped();
            path.id = id;
            path.from.port = Some(40_000 + u16::try_from(id).unwrap());
            if id > 7 {
                path.from.pod = Some("default/pod2".into());
            }
            losses.add(&path);
        }
        losses.add(&samples::cross_node_request());
        let [loss] = losses.finished().try_into().unwrap();
        assert_eq!((losses.paths(), losses.failed(), losses.unlisted()), (11, 10, 0));
        assert_eq!((loss.cause.count, loss.path.id), (10, 1));
        assert_eq!(loss.pairs.iter().map(|pair| pair.count).collect::<Vec<_>>(), [7, 3]);
        assert_eq!(loss.pairs[0].from.port, None);
    }

    #[test]
    fn pairs_beyond_the_bound_are_counted() {
        let mut losses = Losses::default();
        for number in 0..PAIRS + 5 {
            let mut path = samples::dropped();
            path.from.pod = Some(format!("default/pod{number}").into());
            losses.add(&path);
        }
        let [loss] = losses.finished().try_into().unwrap();
        assert_eq!((loss.pairs.len(), loss.unlisted_pairs), (PAIRS, 5));
        assert_eq!(loss.cause.count, PAIRS as u64 + 5);
    }
}
