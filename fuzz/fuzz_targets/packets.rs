//! Packets of any bytes, seen anywhere: through the views of headers, the path engine and a filter.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use podtrace_protocol::frame::{FilterSpec, FromAgent};
use podtrace_protocol::record::{Records, encode};
use podtrace_protocol::wire::{
    EthernetView, ExtensionView, IcmpView, Ip, Ipv4View, Ipv6View, Reading, SctpView, TcpView, UdpView, VxlanView, parse,
};
use podtrace_report::filter::{Choice, Filter};
use podtrace_path::{Context, Engine};
use podtrace_report::recording::Reader;
use podtrace_report::output::{Report as _, Text};
use tracer_common::{Event, hook};

/// What two nodes say of themselves.
static SETUP: LazyLock<(Context, Vec<(usize, FromAgent)>)> = LazyLock::new(|| {
    let recording = include_bytes!("../../tests/recordings/cross-node-ping.pcapng");
    let mut reader = Reader::new(recording.as_slice()).expect("a recording");
    let context = reader.header().context.clone();
    let mut setup = Vec::new();
    while let Some((node, Some(frame))) = reader.next_frame() {
        if matches!(frame, FromAgent::Hello(_) | FromAgent::Topology(_) | FromAgent::Clock { .. }) {
            setup.push((node, frame));
        }
    }
    (context, setup)
});

/// Namespaces and devices of a node, as its topology has them.
fn devices(node: usize) -> Vec<(u32, u32)> {
    let topologies = SETUP.1.iter().filter_map(|(of, frame)| match frame {
        FromAgent::Topology(topology) if *of == node => Some(topology),
        _ => None,
    });
    let namespaces = topologies.flat_map(|topology| &topology.namespaces);
    namespaces.flat_map(|space| space.devices.iter().map(|device| (space.inode, device.index))).collect()
}

/// Takes bytes for each header there is, and asks it for all its fields.
fn view(bytes: &[u8]) {
    for ethernet in [false, true] {
        for (length, segmented) in [(None, false), (Some(60), false), (Some(60), true)] {
            let reading = Reading { ethernet, length, segmented, vxlan_ports: &[8472] };
            let Some(headers) = parse(bytes, reading) else { continue };
            let packet = headers.packet;
            assert!(packet.same_as(&packet));
            let _ = (packet.ports(), packet.echo(), packet.stream(), packet.quoted());
        }
    }
    for ip in [Ip::new(bytes), Ip::in_frame(bytes)].into_iter().flatten() {
        let inner = ip.inner(&[8472]);
        for ip in [Some(ip), inner, ip.quoted()].into_iter().flatten() {
            assert!(ip.body().len() <= bytes.len());
            let _ = (ip.ports(), ip.has_transport());
        }
    }
    if let Some(view) = EthernetView::new(bytes) {
        let _ = (view.destination(), view.source(), view.ether_type(), view.is_ip(), view.payload());
    }
    if let Some(view) = Ipv4View::new(bytes) {
        let _ = (view.source(), view.destination(), view.protocol(), view.ttl(), view.identification());
        let _ = (view.fragment(), view.total_length(), view.header_length(), view.payload());
    }
    if let Some(view) = Ipv6View::new(bytes) {
        let _ = (view.source(), view.destination(), view.next_header(), view.hop_limit());
        let _ = (view.payload_length(), view.payload());
    }
    for kind in 0..=u8::MAX {
        if let Some(view) = ExtensionView::new(kind, bytes) {
            assert!(view.length() >= 8);
            let _ = (view.next_header(), view.fragment());
        }
    }
    if let Some(view) = TcpView::new(bytes) {
        let _ = (view.source_port(), view.destination_port(), view.sequence(), view.acknowledgment());
        let _ = (view.flags(), view.header_length(), view.options());
    }
    if let Some(view) = UdpView::new(bytes) {
        let _ = (view.source_port(), view.destination_port(), view.length(), view.payload());
    }
    if let Some(view) = SctpView::new(bytes) {
        let _ = (view.source_port(), view.destination_port(), view.verification_tag());
    }
    for protocol in [1, 58] {
        if let Some(view) = IcmpView::new(protocol, bytes) {
            let _ = (view.kind(), view.code(), view.rest(), view.quoted());
        }
    }
    if let Some(view) = VxlanView::new(bytes) {
        let _ = (view.vni(), view.frame());
    }
}

fuzz_target!(|bytes: &[u8]| {
    view(bytes);
    let (context, setup) = &*SETUP;
    let mut engine = Engine::new(context.clone());
    let filter: Filter = "tcp or udp port 53 and not net 10.42.0.0/16 or less 60".parse().expect("a filter");
    let mut choice = Choice::new(Some(filter), Some(FilterSpec::default()));
    let mut paths = Vec::new();
    for (node, frame) in setup {
        choice.handle_frame(*node, frame);
        engine.ingest(*node, frame, &mut paths);
    }
    let blank = vec![0; size_of::<Event>()];
    let blank = Records::new(&blank).flatten().next().expect("a record of zeros").event;
    let mut rest = bytes;
    let mut at_ns = 0;
    // Eight bytes say where, how and how long; then comes the packet.
    while let Some((head, after)) = rest.split_first_chunk::<8>() {
        let node = usize::from(head[0] & 1);
        let known = devices(node);
        let (netns, ifindex) = known[usize::from(head[1]) % known.len()];
        at_ns += u64::from(head[6]) << (head[0] >> 3);
        let length = usize::from(head[7]).min(after.len());
        let (packet, after) = after.split_at(length);
        let event = Event {
            at_ns,
            packet: u64::from(head[2] & 15) + 1,
            netns,
            ifindex,
            len: u32::from(head[5]) * 8,
            hook: match head[3] & 7 {
                0..=2 => hook::TC_INGRESS,
                3..=5 => hook::TC_EGRESS,
                6 => hook::KFREE_SKB,
                _ => u16::from(head[4]),
            },
            flags: u16::from(head[3] >> 3),
            captured: u16::try_from(length).unwrap_or(0),
            gso_segs: u16::from(head[4] & 3),
            ..blank
        };
        let mut body = Vec::new();
        encode(&event, None, packet, &mut body);
        let frame = FromAgent::Events(body.into());
        choice.handle_frame(node, &frame);
        engine.ingest(node, &frame, &mut paths);
        rest = after;
    }
    let summary = engine.finish(&mut paths);
    let mut text = Text::wide(std::io::sink());
    for mut path in paths {
        let _ = choice.selects(&path);
        podtrace_report::diagnose::Diagnosis::default().annotate(&mut path);
        text.path(&path).expect("nothing fails to vanish");
    }
    text.summary(&summary).expect("nothing fails to vanish");
});
