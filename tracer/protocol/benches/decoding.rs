//! Decoding what agents send: records, frames, captured headers.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use podtrace_protocol::codec::{read_raw, write_raw};
use podtrace_protocol::frame::FromAgent;
use podtrace_protocol::record::{Records, encode};
use podtrace_protocol::topology::samples;
use podtrace_protocol::wire::{Reading, parse};
use tracer_common::{CAPTURE, Conntrack, Event, hook};

/// Records in a frame.
const RECORDS: usize = 1_000;

/// Ethernet, IPv4, UDP, VXLAN, Ethernet, IPv4, TCP and the beginning of a payload.
fn capture() -> [u8; CAPTURE] {
    let mut bytes = [0; CAPTURE];
    let mut at = 0;
    for part in [
        &[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00][..],
        &[0x45, 0, 5, 220, 0, 1, 0, 0, 64, 17, 0, 0, 192, 168, 56, 11, 192, 168, 56, 12],
        &[0xc3, 0x50, 0x21, 0x18, 5, 200, 0, 0],
        &[0x08, 0, 0, 0, 0, 0, 1, 0],
        &[2, 0, 0, 0, 0, 4, 2, 0, 0, 0, 0, 3, 0x08, 0x00],
        &[0x45, 0, 5, 170, 0, 2, 0x40, 0, 63, 6, 0, 0, 10, 42, 0, 10, 10, 42, 1, 10],
        &[0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x18, 1, 0, 0, 0, 0, 0],
    ] {
        bytes[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    bytes
}

fn event(number: u64) -> Event {
    Event {
        at_ns: number * 1_000,
        packet: number,
        skb: 0,
        location: 0,
        sequence: number,
        parent: 0,
        gateway: [0; 16],
        cpu: 0,
        netns: 1,
        ifindex: 2,
        len: 1_514,
        reason: 0,
        mark: 0,
        hook: hook::TC_INGRESS,
        flags: 0,
        captured: CAPTURE as u16,
        gso_segs: 0,
        gso_size: 0,
        route_ifindex: 0,
        aux: 0,
        reserved: 0,
    }
}

fn benches(criterion: &mut Criterion) {
    let capture = capture();
    let reading = Reading { ethernet: true, length: Some(1_514), segmented: false, vxlan_ports: &[8472] };
    let headers = parse(&capture, reading).expect("a packet in a tunnel");
    assert_eq!((headers.packet.ports(), headers.outer.is_some()), (Some((40_000, 80)), true));
    criterion.bench_function("headers, TCP in VXLAN", |bench| {
        bench.iter(|| parse(black_box(&capture), black_box(reading)));
    });
    let inner = &capture[50..];
    criterion.bench_function("headers, TCP", |bench| {
        bench.iter(|| parse(black_box(inner), black_box(reading)));
    });

    for (name, conntrack) in [("records", None), ("records with connections", Some(Conntrack::default()))] {
        let encode_all = |out: &mut Vec<u8>| {
            (0..RECORDS as u64).for_each(|number| encode(&event(number), conntrack.as_ref(), &capture, out));
        };
        let mut body = Vec::new();
        encode_all(&mut body);
        let decode = |body: &[u8]| {
            Records::new(body).filter_map(Result::ok).map(|record| record.bytes.len()).sum::<usize>()
        };
        assert_eq!(decode(&body), RECORDS * CAPTURE);

        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(RECORDS as u64));
        group.bench_function("decode", |bench| bench.iter(|| decode(black_box(&body))));
        let mut out = Vec::with_capacity(body.len());
        group.bench_function("encode", |bench| {
            bench.iter(|| {
                out.clear();
                encode_all(black_box(&mut out));
            });
        });
        group.finish();
    }

    let mut events = Vec::new();
    (0..RECORDS as u64).for_each(|number| encode(&event(number), None, &capture, &mut events));
    let mut group = criterion.benchmark_group("frames");
    for (name, frame) in [
        ("events", FromAgent::Events(Bytes::from(events))),
        ("heartbeat", FromAgent::Heartbeat { now_ns: 1, counters: Default::default() }),
        ("topology", FromAgent::Topology(samples::k3s())),
    ] {
        let mut stream = Vec::new();
        write_raw(&mut stream, &frame.to_raw()).expect("vectors take everything");
        let read = |mut stream: &[u8]| read_raw(&mut stream).ok().flatten().map(FromAgent::from_raw);
        assert!(read(&stream).is_some_and(|read| read.is_ok_and(|read| read == frame)));
        group.throughput(Throughput::Bytes(stream.len() as u64));
        group.bench_function(format!("read, {name}"), |bench| bench.iter(|| read(black_box(&stream))));
    }
    group.finish();
}

criterion_group!(decoding, benches);
criterion_main!(decoding);
