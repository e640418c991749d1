//! What may be said of packets whose ways are known.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use podtrace_path::{Action, Path, Point, Summary, Verdict};

use super::plan::Fate;
use super::stream::{Record, Streams, shown};
use super::travel::{Number, Sent};

/// A trace whose packets are known, as far as it was recorded.
pub(super) struct Truth<'a> {
    pub(super) sent: &'a [Sent],
    pub(super) streams: &'a Streams,
    pub(super) is_lossy: bool,
}

/// What the engine says of it.
pub(super) struct Told {
    pub(super) paths: Vec<Path>,
    pub(super) summary: Summary,
}

/// What is false, in words.
pub(super) type Checked = Result<(), String>;

/// A path's records, its verdict and label: what does not depend on whose frames came first. Its confidence does where packets
/// look alike: the more frames come at once, the more of them are under way together.
pub(super) type Outline = BTreeSet<(Vec<(usize, u64)>, String)>;

impl Told {
    pub(super) fn outline(&self) -> Outline {
        let one = |path: &Path| {
            let mut sources: Vec<_> = sources(path).collect();
            sources.sort_unstable();
            (sources, format!("{:?} {}", path.verdict, path.label))
        };
        self.paths.iter().map(one).collect()
    }
}

fn sources(path: &Path) -> impl Iterator<Item = (usize, u64)> {
    path.hops.iter().flat_map(|hop| &hop.sources).map(|source| (source.node, source.number))
}

impl Truth<'_> {
    fn record(&self, (node, number): (usize, u64)) -> &Record {
        &self.streams.records[node][number as usize]
    }

    pub(super) fn check(&self, told: &Told) -> Checked {
        self.counts_balance(told)?;
        for path in &told.paths {
            self.is_possible(path).map_err(|error| self.about(path, &error))?;
            self.is_true(path).map_err(|error| self.about(path, &error))?;
        }
        self.is_in_one_path(told)?;
        if self.is_lossy { Ok(()) } else { self.all_are_there(told) }
    }

    fn counts_balance(&self, told: &Told) -> Checked {
        let events = &told.summary.events;
        let kept: usize = self.streams.records.iter().map(Vec::len).sum();
        let balance =
            events.produced == events.delivered + events.lost_ring && events.delivered == kept as u64;
        ensure(balance, || format!("{kept} records were kept: {events:?}"))?;
        let verdicts = &told.summary.paths;
        let all =
            verdicts.delivered + verdicts.dropped + verdicts.vanished + verdicts.rejected + verdicts.open;
        ensure(all == told.paths.len() as u64, || format!("{} paths: {verdicts:?}", told.paths.len()))?;
        let is_whole = events.lost_ring == 0;
        let says = told.summary.complete;
        ensure(says == is_whole, || format!("complete: {says}, with {events:?}"))
    }

    /// What no packet can do.
    fn is_possible(&self, path: &Path) -> Checked {
        let is_sure = path.confidence == 1.0;
        // Segments whose records are lost in part may be taken for those that are sent again, where nothing tells.
        let may_mix = self.is_lossy && !is_sure && self.is_segmented(path);
        let mut spots = BTreeSet::new();
        for hop in path.hops.iter().filter(|hop| hop.action != Action::Drop && !may_mix) {
            let spot = (hop.node.clone(), hop.device.clone(), hop.point.as_ref().map(Point::to_string));
            ensure(hop.point.is_none() || spots.insert(spot), || "twice at one place".to_owned())?;
        }
        let mut last: BTreeMap<Option<usize>, u64> = BTreeMap::new();
        for hop in &path.hops {
            let records = || hop.sources.iter().map(|source| self.record((source.node, source.number)));
            let Some(first) = records().min_by_key(|record| record.at) else { continue };
            // Where packets look alike, only one node's times compare.
            let before = last.insert((!is_sure).then_some(first.node), first.at);
            ensure(before.is_none_or(|before| before <= first.at), || {
                "earlier than the hop before".to_owned()
            })?;
        }
        let directions: BTreeSet<_> =
            sources(path).map(|source| self.direction(self.record(source).of[0])).collect();
        ensure(directions.len() <= 1, || "of several flows or directions".to_owned())?;
        let of_one = self.packets_of(path).is_some_and(|packets| !packets.is_empty());
        ensure(of_one || !is_sure, || "of several packets, and sure of it".to_owned())
    }

    fn is_segmented(&self, path: &Path) -> bool {
        let is_segmented = |number: &Number| self.sent[*number].packet.segments > 1;
        sources(path).any(|source| self.record(source).of.iter().any(is_segmented))
    }

    /// The pod that sent a packet, and its ends.
    fn direction(&self, number: Number) -> String {
        let Sent { packet, from, .. } = &self.sent[number];
        let protocol = packet.protocol();
        let mut ports = packet.ports();
        if packet.piece.is_some_and(|(start, ..)| start > 0) {
            ports = (0, 0);
        }
        format!("{from:?} {} {} {protocol} {ports:?}", packet.src, packet.dst)
    }

    /// The packets that all records of a path are of; `None` if it has no record.
    fn packets_of(&self, path: &Path) -> Option<BTreeSet<Number>> {
        sources(path)
            .map(|source| self.record(source).of.iter().copied().collect::<BTreeSet<_>>())
            .reduce(|all, other| all.intersection(&other).copied().collect())
    }

    /// Whether the verdict fits what happened to the packet, where it is known which one it is.
    fn is_true(&self, path: &Path) -> Checked {
        if path.confidence < 1.0 {
            return Ok(());
        }
        let packets = self.packets_of(path).unwrap_or_default();
        let fits = |number: &Number| may_say(self.sent[*number].fate, path.verdict, self.is_lossy);
        ensure(packets.iter().any(fits), || {
            let fates: Vec<_> = packets.iter().map(|number| self.sent[*number].fate).collect();
            format!("{:?}, in truth {fates:?}", path.verdict)
        })
    }

    /// Whether each record is in as many paths as it has packets, at most.
    fn is_in_one_path(&self, told: &Told) -> Checked {
        let mut seen: BTreeMap<(usize, u64), usize> = BTreeMap::new();
        for path in &told.paths {
            for source in sources(path) {
                let count = seen.entry(source).or_default();
                *count += 1;
                let of = &self.record(source).of;
                // Of segments whose whole was not seen, each one may be a path.
                let pieces = of.iter().map(|number| usize::from(self.sent[*number].packet.segments)).sum();
                let most = if self.is_lossy { pieces } else { of.len() };
                ensure(*count <= most, || self.about(path, &format!("{source:?} is in {count} paths")))?;
            }
        }
        Ok(())
    }

    /// Of each set of packets that look alike, as many paths with each verdict as there are packets with such a fate.
    fn all_are_there(&self, told: &Told) -> Checked {
        let mut classes: Vec<(&Sent, Counts)> = Vec::new();
        for sent in self.sent {
            let class = match classes.iter().position(|(other, _)| other.packet.looks_like(&sent.packet)) {
                Some(class) => class,
                None => {
                    classes.push((sent, Counts::default()));
                    classes.len() - 1
                }
            };
            *classes[class].1.missing.entry(format!("{:?}", verdict(sent.fate))).or_default() += 1;
        }
        for path in &told.paths {
            let Some(first) = sources(path).next() else { continue };
            let first = &self.sent[self.record(first).of[0]];
            let class = classes.iter_mut().find(|(other, _)| other.packet.looks_like(&first.packet));
            if let Some((_, counts)) = class {
                *counts.missing.entry(format!("{:?}", path.verdict)).or_default() -= 1;
                counts.is_sure &= path.confidence == 1.0;
            }
        }
        for (sent, counts) in classes {
            ensure(counts.balance(), || {
                let mut text = format!("of {}: in truth minus told {counts:?}", shown(&sent.packet));
                for path in &told.paths {
                    let is_of = |number: &Number| self.sent[*number].packet.looks_like(&sent.packet);
                    if sources(path).any(|source| self.record(source).of.iter().any(is_of)) {
                        text.push_str(&self.about(path, ""));
                    }
                }
                text
            })?;
        }
        Ok(())
    }

    /// A path beside what its records are of.
    fn about(&self, path: &Path, error: &str) -> String {
        let mut text = format!(
            "{error}\n  path {} {} {:?} {:?} confidence {}",
            path.id, path.label, path.verdict, path.reason, path.confidence
        );
        for hop in &path.hops {
            let _ = write!(
                text,
                "\n    {} {} {:?} {:?}",
                hop.node,
                hop.device.as_deref().unwrap_or("-"),
                hop.action,
                hop.at_ns
            );
            for source in &hop.sources {
                let record = self.record((source.node, source.number));
                let _ = write!(text, " [{} at {} {}]", source.number, record.at, record.shown());
            }
        }
        let numbers: BTreeSet<_> =
            sources(path).flat_map(|source| self.record(source).of.iter().copied()).collect();
        for number in numbers {
            let Sent { packet, from, fate } = &self.sent[number];
            let _ = write!(text, "\n    packet {number}: {from:?} {fate:?} {}", shown(packet));
        }
        text
    }
}

/// How many more packets have a fate than there are paths with its verdict, and whether all of these paths are sure.
#[derive(Debug)]
struct Counts {
    missing: BTreeMap<String, i64>,
    is_sure: bool,
}

impl Default for Counts {
    fn default() -> Self {
        Self { missing: BTreeMap::new(), is_sure: true }
    }
}

impl Counts {
    /// Where packets look alike, one's way may be taken for the other's: then there are as many paths as packets, and no more
    /// of them are called delivered than are.
    fn balance(&self) -> bool {
        let delivered = self.missing.get("Delivered").copied().unwrap_or(0);
        let is_exact = self.missing.values().all(|count| *count == 0);
        is_exact || (!self.is_sure && delivered >= 0 && self.missing.values().sum::<i64>() == 0)
    }
}

/// What is to be said of a packet that was followed all the way.
fn verdict(fate: Fate) -> Verdict {
    match fate {
        Fate::Arrives | Fate::Flooded => Verdict::Delivered,
        Fate::LostOnWire => Verdict::Vanished,
        Fate::DroppedBefore | Fate::DroppedAtUplink | Fate::DroppedAfter | Fate::DroppedInside => {
            Verdict::Dropped
        }
        Fate::Refused => Verdict::Rejected,
    }
}

/// Whether this may be said of a packet, the less the more records are missing.
fn may_say(fate: Fate, said: Verdict, is_lossy: bool) -> bool {
    let weaker = match fate {
        Fate::DroppedInside => vec![Verdict::Open, Verdict::Delivered],
        Fate::Refused => vec![Verdict::Open, Verdict::Delivered, Verdict::Dropped],
        _ => vec![Verdict::Open],
    };
    said == verdict(fate) || (is_lossy && weaker.contains(&said))
}

fn ensure(holds: bool, error: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(error()) }
}
