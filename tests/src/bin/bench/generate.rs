//! A recording of any size: one that was really made, its packets again and again under other names and later.

use std::fs::File;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use podtrace_path::Engine;
use podtrace_protocol::frame::{Accounting, FromAgent};
use podtrace_protocol::record::{RawEvent, Records, encode};
use podtrace_report::recording::{Files, Header, Recorder, Target};

/// Time from one packet to the next.
const EVERY_NS: u64 = 100_000;
/// How often nodes say how far they are.
const BEAT_NS: u64 = 30_000_000;
/// Identities that the template's packets have at most.
const IDENTITIES: u64 = 1 << 20;
/// Source and destination of the template's request, and of its reply.
const ENDS: [[u8; 8]; 2] = [[10, 42, 0, 10, 10, 42, 1, 10], [10, 42, 1, 10, 10, 42, 0, 10]];

/// An event of the template.
struct Original {
    node: usize,
    event: tracer_common::Event,
    bytes: Vec<u8>,
    /// Where in the bytes the addresses of the packet itself are.
    ends: usize,
}

/// The template taken apart.
struct Template {
    header: Header,
    /// What nodes say before any event.
    setup: Vec<(usize, FromAgent)>,
    events: Vec<Original>,
}

impl Template {
    fn read(file: &Path) -> Result<Self> {
        let mut reader = Files(vec![file.to_owned()]).open()?;
        let (mut setup, mut events) = (Vec::new(), Vec::new());
        while let Some((node, frame)) = reader.next_frame() {
            match frame {
                Some(FromAgent::Events(body)) => {
                    for record in Records::new(&body) {
                        let RawEvent { event, bytes, conntrack: _ } = record?;
                        // Drops are left out: this one's mean nothing.
                        let here =
                            bytes.windows(8).rposition(|window| ENDS.iter().any(|ends| window == ends));
                        if let Some(ends) = here.filter(|_| event.location == 0) {
                            events.push(Original { node, event, bytes: bytes.to_vec(), ends });
                        }
                    }
                }
                Some(
                    frame @ (FromAgent::Hello(_)
                    | FromAgent::Topology(_)
                    | FromAgent::Attached(_)
                    | FromAgent::Clock { .. }),
                ) => setup.push((node, frame)),
                _ => {}
            }
        }
        ensure!(!events.is_empty(), "{} has no events to take", file.display());
        Ok(Self { header: reader.header().clone(), setup, events })
    }
}

impl Original {
    /// The event as number `round` of its kind.
    fn again(&self, round: u64, out: &mut Vec<u8>) {
        let mut event = self.event;
        event.at_ns += round * EVERY_NS;
        event.packet += round * IDENTITIES;
        let mut bytes = self.bytes.clone();
        let name = round.to_be_bytes();
        // Identification of the IP packet, and of the echo: identifier and sequence number.
        bytes[self.ends - 8..self.ends - 6].copy_from_slice(&name[6..]);
        if let Some(echo) = bytes.get_mut(self.ends + 12..self.ends + 16) {
            echo.copy_from_slice(&name[4..]);
        }
        encode(&event, None, &bytes, out);
    }
}

/// Writes a recording of about so many events, as a live trace does.
pub(crate) fn recording(template: &Path, file: &Path, events: u64) -> Result<()> {
    let Template { header, setup, events: originals } = Template::read(template)?;
    let rounds = events.div_ceil(originals.len() as u64);
    let mut counters = vec![Accounting::default(); header.context.nodes.len()];
    let mut engine = Engine::new(header.context.clone());
    let header = Header { title: format!("{events} events"), count: None, ..header };
    let open = |path: &Path| -> Result<Box<dyn std::io::Write + Send>> { Ok(Box::new(File::create(path)?)) };
    let target = Target { path: file.to_owned(), rotate: None };
    let mut recorder = Recorder::create(target, header, Box::new(open))?;
    let mut paths = Vec::new();
    let mut feed = |node: usize, frame: &FromAgent| -> Result<()> {
        recorder.frame(node, Some(frame));
        engine.ingest(node, frame, &mut paths);
        for path in paths.drain(..) {
            recorder.path(&path)?;
        }
        recorder.flush()
    };
    for (node, frame) in &setup {
        feed(*node, frame)?;
    }
    let at_once = BEAT_NS / EVERY_NS;
    let mut round = 0;
    while round < rounds {
        let until = (round + at_once).min(rounds);
        for (node, counters) in counters.iter_mut().enumerate() {
            let own = || originals.iter().filter(|original| original.node == node);
            let mut body = Vec::new();
            for round in round..until {
                own().for_each(|original| original.again(round, &mut body));
            }
            let count = (until - round) * own().count() as u64;
            counters.produced += count;
            counters.sent += count;
            feed(node, &FromAgent::Events(Bytes::from(body)))?;
            let first = own().map(|original| original.event.at_ns).min().context("a node without events")?;
            let now_ns = first + until * EVERY_NS;
            feed(node, &FromAgent::Heartbeat { now_ns, counters: *counters })?;
        }
        round = until;
    }
    for (node, counters) in counters.into_iter().enumerate() {
        feed(node, &FromAgent::Goodbye { counters })?;
    }
    let summary = engine.finish(&mut paths);
    for path in paths.drain(..) {
        recorder.path(&path)?;
    }
    ensure!(summary.complete, "what was made is not complete: {summary:?}");
    recorder.finish(&summary)
}
