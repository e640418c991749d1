//! What a recording keeps, and that the paths it tells are the same.

use pcap_parser::traits::PcapNGPacketBlock as _;
use pcap_parser::{Block, OptionCode, PcapNGOption};

use tracer_common::hook;

use crate::testkit::*;
use podtrace_path::{Context, Engine, Path, Summary};
use podtrace_protocol::frame::FromAgent;
use podtrace_report::recording::{Header, Reader, Writer};

/// Records frames as a live trace does, in a new part after every so many frames.
fn record(
    context: &Context,
    frames: &[(usize, FromAgent)],
    rotate: usize,
) -> (Vec<Vec<u8>>, Vec<Path>, Summary) {
    let mut writer = Writer::new(Header::new(context.clone()));
    let mut engine = Engine::new(context.clone());
    let (mut parts, mut told, mut paths) = (vec![Vec::new()], Vec::new(), Vec::new());
    for (number, (node, frame)) in frames.iter().enumerate() {
        writer.frame(*node, Some(frame));
        engine.ingest(*node, frame, &mut paths);
        paths.iter().for_each(|path| writer.path(path));
        told.append(&mut paths);
        parts.last_mut().unwrap().extend(writer.take());
        if number % rotate == rotate - 1 {
            writer.next_part();
            parts.push(writer.take());
        }
    }
    let summary = engine.finish(&mut paths);
    paths.iter().for_each(|path| writer.path(path));
    told.append(&mut paths);
    writer.end(&summary);
    parts.last_mut().unwrap().extend(writer.take());
    (parts, told, summary)
}

/// What a recording tells, and what it lacks.
fn tell(bytes: &[u8]) -> Result<(Vec<Path>, Summary, Option<String>), String> {
    let mut reader = Reader::new(bytes).map_err(|error| format!("{error:#}"))?;
    let mut engine = Engine::new(reader.header().context.clone());
    let mut paths = Vec::new();
    while let Some((node, frame)) = reader.next_frame() {
        match frame {
            Some(frame) => engine.ingest(node, &frame, &mut paths),
            None => engine.node_ended(node),
        }
    }
    let summary = engine.finish(&mut paths);
    Ok((paths, summary, reader.damage()))
}

/// Pings within and across nodes, a stream that is merged, a drop, and a packet that vanishes.
fn busy() -> Scene {
    let mut scene = Scene::new();
    for number in 0..4 {
        let at = u64::from(number) * 300_000_000;
        scene.cross(at, &echo(POD1, POD3, number, 100 + number));
        scene.cross(at + 1_000_000, &echo_reply(POD3, POD1, number, 200 + number));
        scene.bridge(at + 2_000_000, &echo(POD1, POD2, number, 300 + number));
    }
    scene.leave(50_000_000, &udp(POD1, POD3, 9, b"never seen again"));
    scene.quiet = 12_000_000_000;
    scene
}

fn text(options: &[PcapNGOption<'_>], code: OptionCode) -> Vec<String> {
    let texts = options.iter().filter(|option| option.code == code);
    texts.map(|option| option.as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_same_paths_are_told_again() {
    let scene = busy();
    for beat in [1_000_000, 30_000_000, 400_000_000] {
        let (parts, paths, summary) = record(&scene.context(), &scene.frames(beat), usize::MAX);
        assert_eq!(tell(&parts.concat()), Ok((paths, summary, None)), "a heartbeat every {beat} ns");
    }
}

#[test]
fn parts_tell_the_same_together_and_something_each() {
    let scene = busy();
    let (parts, paths, summary) = record(&scene.context(), &scene.frames(30_000_000), 40);
    assert!(parts.len() > 10, "{}", parts.len());
    assert_eq!(tell(&parts.concat()), Ok((paths, summary, None)));
    let mut alone = 0;
    for part in &parts {
        let (paths, _, damage) = tell(part).unwrap();
        assert!(damage.is_some());
        // Whole paths, although their beginnings were heard of in the part before.
        alone += paths.iter().filter(|path| path.hops.len() == 8).count();
    }
    assert_eq!(alone, 8);
}

#[test]
fn packets_say_what_they_are() {
    let scene = busy();
    let (parts, paths, summary) = record(&scene.context(), &scene.frames(30_000_000), usize::MAX);
    let bytes = parts.concat();
    let (mut names, mut packets, mut rest) = (Vec::new(), 0, bytes.as_slice());
    while !rest.is_empty() {
        let (after, block) = pcap_parser::parse_block_le(rest).unwrap();
        rest = after;
        match block {
            Block::InterfaceDescription(interface) => {
                assert_eq!((interface.linktype.0, interface.if_tsresol), (1, 9));
                names.extend(text(&interface.options, OptionCode::IfName));
            }
            Block::EnhancedPacket(packet) => {
                packets += 1;
                let id = packet.options.iter().find(|option| option.code == OptionCode(5)).unwrap();
                let path = &paths[usize::try_from(id.as_u64_le().unwrap()).unwrap() - 1];
                let comments = text(&packet.options, OptionCode::Comment);
                let line =
                    comments.iter().find(|line| line.starts_with(&format!("#{} hop ", path.id))).unwrap();
                let place = line.split(&[' ', '/']).nth(2).unwrap();
                let hop = &path.hops[place.parse::<usize>().unwrap() - 1];
                let at = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                assert_eq!(at, path.started_at.saturating_add_signed(hop.at_ns.unwrap()), "{line}");
                let device = hop.device.as_deref().unwrap();
                assert_eq!(
                    names[packet.if_id as usize],
                    format!("{}/{device} {}", hop.node, hop.point.unwrap())
                );
                assert!(line.contains(&format!("{} {device}", hop.node)), "{line}");
                if hop.index == 0 {
                    assert!(comments[0].contains(&format!("#{}  flow", path.id)), "{comments:?}");
                }
                assert_eq!(packet.caplen as usize, packet.packet_data().len());
            }
            _ => {}
        }
    }
    assert_eq!(packets, summary.events.delivered);
    assert!(names.contains(&"node1/eth0 tc:egress".to_owned()), "{names:?}");
}

#[test]
fn what_only_the_stack_saw_is_shown_with_the_packet_it_was() {
    let mut scene = Scene::new();
    let identity = scene.bridge(0, &echo(POD1, POD2, 1, 1));
    scene.pass(NODE1, 2_000, hook::BRIDGE_INPUT, 10, identity, blank());
    scene.pass(NODE1, 4_000, hook::BRIDGE_FORWARD, 10, identity, blank());
    let (parts, paths, summary) = record(&scene.context(), &scene.frames(30_000_000), usize::MAX);
    let bytes = parts.concat();
    assert_eq!(paths[0].hops.len(), 3);
    assert_eq!(tell(&bytes), Ok((paths, summary, None)));
    let (mut hops, mut rest) = (Vec::new(), bytes.as_slice());
    while let Ok((after, block)) = pcap_parser::parse_block_le(rest) {
        rest = after;
        if let Block::EnhancedPacket(packet) = block {
            let comments = text(&packet.options, OptionCode::Comment);
            hops.extend(
                comments.iter().find_map(|line| line.strip_prefix("#1 hop ")?.get(..3).map(str::to_owned)),
            );
            assert_eq!(packet.packet_data().len(), 98);
        }
    }
    // The hop that no tap saw as well, and no more of what the stack saw.
    assert_eq!(hops, ["1/3", "2/3", "3/3"]);
}

#[test]
fn wherever_it_is_cut_off_it_does_not_look_whole() {
    let scene = busy();
    let (parts, whole, _) = record(&scene.context(), &scene.frames(300_000_000), usize::MAX);
    let bytes = parts.concat();
    let mut most = 0;
    for end in (0..bytes.len()).step_by(61) {
        let Ok((paths, _, damage)) = tell(&bytes[..end]) else { continue };
        assert!(damage.is_some(), "cut off at {end}");
        assert!(paths.len() <= whole.len());
        most = most.max(paths.len());
    }
    assert_eq!(most, whole.len());
}

#[test]
fn what_is_damaged_is_passed_over_and_named() {
    let scene = busy();
    let (parts, whole, _) = record(&scene.context(), &scene.frames(30_000_000), usize::MAX);
    let bytes = parts.concat();
    for at in (bytes.len() / 2..bytes.len()).step_by(997) {
        let mut damaged = bytes.clone();
        for byte in damaged.iter_mut().skip(at).take(16) {
            *byte ^= 0x55;
        }
        let (paths, _, damage) = tell(&damaged).unwrap();
        let same = whole.iter().filter(|path| paths.iter().any(|other| other.hops == path.hops)).count();
        assert!(same + 3 >= whole.len(), "damage at {at}: {same} of {}", whole.len());
        // Nothing but a packet's bytes or a comment's may have changed without a word.
        assert!(damage.is_some() || paths.len() >= whole.len() - 1, "damage at {at}");
    }
}

#[test]
fn what_is_no_recording_says_so() {
    let section = {
        let scene = busy();
        let (parts, ..) = record(&scene.context(), &[], usize::MAX);
        let length = u32::from_le_bytes(*parts[0][4..].first_chunk().unwrap());
        parts[0][..length as usize].to_vec()
    };
    // A simple packet block without bytes.
    let packet = [3_u32, 16, 0, 16].map(u32::to_le_bytes).concat();
    for (bytes, what) in [
        (b"".as_slice(), "not a podtrace recording"),
        (b"hello", "not a podtrace recording"),
        (b"podtrace\x07\0\0\0", "older podtrace"),
        (&section, "ends before its header"),
        (&[section.as_slice(), &section].concat(), "ends before its header"),
        (&[section.as_slice(), &packet].concat(), "was not written by podtrace"),
    ] {
        let error = tell(bytes).unwrap_err();
        assert!(error.contains(what), "{error}");
    }
}
