//! A property: whatever the paths are, flows, routes and causes sum up to them.

use super::*;
use crate::output::samples;
use podtrace_path::{Direction, Path, Reading, Segment, Verdict};

/// A generator of numbers that look random, the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn any_path(id: u64, numbers: &mut Numbers) -> Path {
    let samples = samples::all();
    let index = usize::try_from(numbers.below(samples.len() as u64)).unwrap();
    let mut path = samples[index].1.clone();
    path.id = id;
    path.flow.id = 1 + numbers.below(40);
    path.flow.direction = if numbers.below(2) == 0 { Direction::Request } else { Direction::Reply };
    path.duration_ns = i64::try_from(numbers.below(1 << 40)).unwrap() - 1_000;
    path.started_at += numbers.below(1 << 30);
    if numbers.below(4) == 0 {
        path.verdict = [Verdict::Dropped, Verdict::Vanished, Verdict::Rejected, Verdict::Open]
            [usize::try_from(numbers.below(4)).unwrap()];
    }
    path.hops[0].device = Some(format!("veth{}", numbers.below(3)).into());
    let at_ns = i64::try_from(numbers.below(1 << 30)).unwrap();
    path.seen = Some((Reading { node: 0, at_ns }, Reading { node: 0, at_ns: at_ns + 70_000 }));
    path.segment = match numbers.below(3) {
        0 => Some(Segment::Tcp {
            seq: u32::try_from(numbers.below(1 << 32)).unwrap(),
            ack: 1,
            flags: u8::try_from(numbers.below(256)).unwrap(),
        }),
        1 => Some(Segment::Echo {
            reply: numbers.below(2) == 0,
            seq: u16::try_from(numbers.below(9)).unwrap(),
        }),
        _ => None,
    };
    path
}

fn add(sum: &mut VerdictCounts, counts: &VerdictCounts) {
    sum.delivered += counts.delivered;
    sum.dropped += counts.dropped;
    sum.vanished += counts.vanished;
    sum.rejected += counts.rejected;
    sum.open += counts.open;
}

#[test]
fn flows_routes_and_causes_sum_up_to_the_paths() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for length in [1, 2, 10, 500, 3_000] {
        let paths: Vec<_> = (1..=length).map(|id| any_path(id, &mut numbers)).collect();
        let mut collector = Collector::default();
        paths.iter().for_each(|path| collector.add(path));
        let Finished { causes, routes, flows, totals } = collector.finished(End::default());

        let mut expected = VerdictCounts::default();
        paths.iter().for_each(|path| count(path.verdict, &mut expected));
        assert_eq!(totals.paths, expected);
        let bytes: u64 = paths.iter().map(|path| u64::from(path.bytes)).sum();
        assert_eq!(totals.bytes, bytes);

        let mut by_flow = totals.unlisted_flow_paths;
        flows.iter().for_each(|flow| add(&mut by_flow, &flow.paths));
        assert_eq!(by_flow, expected);
        let ways = || flows.iter().flat_map(|flow| [flow.request, flow.reply]);
        assert_eq!(ways().map(|way| way.packets).sum::<u64>(), length);
        assert_eq!(ways().map(|way| way.bytes).sum::<u64>(), bytes);
        assert_eq!(ways().map(|way| way.lost).sum::<u64>(), failed(&expected));
        assert_eq!(ways().map(|way| way.retransmitted).sum::<u64>(), totals.retransmitted);
        assert_eq!(flows.len() as u64, totals.flows);

        let mut by_route = VerdictCounts::default();
        routes.iter().for_each(|route| add(&mut by_route, &route.paths));
        assert_eq!(by_route, expected);
        assert!(routes.iter().all(|route| route.latency.p50_ns <= route.latency.p99_ns));
        assert!(routes.iter().all(|route| route.latency.p99_ns <= route.latency.max_ns));

        let by_cause: u64 = causes.iter().map(|cause| cause.count).sum();
        assert_eq!(by_cause, failed(&expected));
        for cause in &causes {
            let of_cause = |path: &&Path| cause::key(path).is_some() && path.id == cause.example;
            assert!(paths.iter().any(|path| of_cause(&path)), "{cause:?}");
            assert!(cause.flows <= cause.count && cause.first_at <= cause.last_at);
        }
        for exchanged in totals.exchanges {
            assert!(exchanged.rtt.is_none_or(|rtt| rtt.count <= exchanged.answered.unwrap_or(0) + length));
        }
    }
}
