//! The engine: frames of recorded traces, and a ping across nodes many times over.

use std::fs::File;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use podtrace_path::{Context, Engine, Summary, Verdict};
use podtrace_protocol::frame::{Accounting, FromAgent};
use podtrace_protocol::record::{RawEvent, Records, encode};
use podtrace_report::recording::Reader;

/// Time from one ping to the next, and from one heartbeat to the next, in nanoseconds.
const PING_NS: u64 = 100_000;
const HEARTBEAT_NS: u64 = 30_000_000;
/// Larger than any packet identity of the recording.
const IDENTITIES: u64 = 1 << 20;

/// What an engine is given.
struct Stream {
    context: Context,
    frames: Vec<(usize, Option<FromAgent>)>,
    events: u64,
}

impl Stream {
    fn recorded(name: &str) -> Self {
        let file = format!("{}/../../tests/recordings/{name}.pcapng", env!("CARGO_MANIFEST_DIR"));
        let mut reader = Reader::new(File::open(file).expect("a recording")).expect("a recording");
        let context = reader.header().context.clone();
        let frames: Vec<_> = std::iter::from_fn(|| reader.next_frame()).collect();
        let count = |frame: &Option<FromAgent>| match frame {
            Some(FromAgent::Events(body)) => Records::new(body).count() as u64,
            _ => 0,
        };
        let events = frames.iter().map(|(_, frame)| count(frame)).sum();
        Self { context, frames, events }
    }

    /// The same events again and again, later and as other packets.
    fn repeated(self, times: u64) -> Self {
        let Self { context, frames, events } = self;
        let mut originals = vec![Vec::new(); context.nodes.len()];
        let mut repeated = Vec::new();
        for (node, frame) in frames {
            match frame {
                Some(FromAgent::Events(body)) => originals[node].push(body),
                Some(FromAgent::Heartbeat { .. } | FromAgent::Goodbye { .. }) | None => {}
                setup => repeated.push((node, setup)),
            }
        }
        let per_frame = HEARTBEAT_NS / PING_NS;
        let mut counters = vec![Accounting::default(); context.nodes.len()];
        for first in (0..times).step_by(per_frame as usize) {
            let rounds = first..(first + per_frame).min(times);
            for (node, counters) in counters.iter_mut().enumerate() {
                let records =
                    || originals[node].iter().flat_map(|body| Records::new(body)).filter_map(Result::ok);
                let mut body = Vec::new();
                rounds.clone().for_each(|round| records().for_each(|record| again(record, round, &mut body)));
                let count = records().count() as u64 * (rounds.end - rounds.start);
                counters.produced += count;
                counters.sent += count;
                let begin = records().map(|record| record.event.at_ns).min().expect("a node with events");
                let now_ns = begin + rounds.end * PING_NS;
                repeated.push((node, Some(FromAgent::Events(Bytes::from(body)))));
                repeated.push((node, Some(FromAgent::Heartbeat { now_ns, counters: *counters })));
            }
        }
        let goodbye = |(node, counters)| (node, Some(FromAgent::Goodbye { counters }));
        repeated.extend(counters.into_iter().enumerate().map(goodbye));
        Self { context, frames: repeated, events: events * times }
    }

    /// All paths, and the summary.
    fn run(&self, mut engine: Engine) -> (usize, Summary) {
        let (mut paths, mut finished) = (Vec::new(), 0);
        for (node, frame) in &self.frames {
            match frame {
                Some(frame) => engine.ingest(*node, frame, &mut paths),
                None => engine.node_ended(*node),
            }
            finished += paths.drain(..).filter(|path| path.verdict == Verdict::Delivered).count();
        }
        let summary = engine.finish(&mut paths);
        (finished + paths.iter().filter(|path| path.verdict == Verdict::Delivered).count(), summary)
    }
}

/// The record as that of packet number `round`.
fn again(record: RawEvent<'_>, round: u64, out: &mut Vec<u8>) {
    let RawEvent { mut event, conntrack, bytes } = record;
    event.at_ns += round * PING_NS;
    event.packet += round * IDENTITIES;
    let mut bytes = bytes.to_vec();
    // Source and destination address; before them, among others, the identification of the IP packet, and behind them
    // the ICMP header with identifier and sequence number.
    let addresses = |window: &[u8]| {
        window[..3] == [10, 42, 0] && window[4..7] == [10, 42, 1]
            || window[..3] == [10, 42, 1] && window[4..7] == [10, 42, 0]
    };
    if let Some(at) = bytes.windows(8).rposition(addresses) {
        let number = round.to_be_bytes();
        bytes[at - 8..at - 6].copy_from_slice(&number[6..]);
        if let Some(echo) = bytes.get_mut(at + 12..at + 16) {
            echo.copy_from_slice(&number[4..]);
        }
    }
    encode(&event, conntrack.as_ref(), &bytes, out);
}

fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("engine");
    let recorded = ["cross-node-ping", "tcp-connection", "service-other-node", "dns-race"];
    let streams = recorded.map(|name| (name, Stream::recorded(name)));
    let pings = ("2,000 pings across nodes", Stream::recorded("cross-node-ping").repeated(2_000));
    for (name, stream) in streams.into_iter().chain([pings]) {
        let (delivered, summary) = stream.run(Engine::new(stream.context.clone()));
        assert!(delivered > 0, "{name}: {summary:?}");
        group.throughput(Throughput::Elements(stream.events));
        if stream.events > 1_000 {
            println!("{name}: {} events, {delivered} paths delivered, {summary:?}", stream.events);
            group.sample_size(10);
        }
        group.bench_function(name, |bench| {
            bench.iter_batched(
                || Engine::new(stream.context.clone()),
                |engine| stream.run(engine),
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

criterion_group!(engine, benches);
criterion_main!(engine);
