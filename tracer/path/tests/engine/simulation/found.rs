//! Plans of which something false was said once.

use super::plan::{Exchange, Fate, Plan, What};
use super::says_the_truth;

/// Two nodes with kernels of their own, whose clocks are known well, and no loss.
fn plan(seed: u64, traffic: Vec<Exchange>) -> Plan {
    Plan {
        nodes: 2,
        shared: false,
        unreported_frees: 0,
        copies_reported: false,
        clock_delay: 1_000,
        lost: 0,
        seed,
        traffic,
    }
}

/// The same with clocks that are known to 2 ms.
fn unsure(seed: u64, traffic: Vec<Exchange>) -> Plan {
    Plan { clock_delay: 2_000_000, ..plan(seed, traffic) }
}

/// From one pod to another, 1 µs apart.
fn exchange(what: What, from: usize, to: usize, fates: &[Fate]) -> Exchange {
    Exchange { at: 0, what, v6: false, from, to, by_service: false, fates: fates.to_vec(), gap: 1_000 }
}

fn by_service(what: What, from: usize, to: usize, fates: &[Fate]) -> Exchange {
    Exchange { by_service: true, ..exchange(what, from, to, fates) }
}

fn over_v6(what: What, from: usize, to: usize, fates: &[Fate]) -> Exchange {
    Exchange { v6: true, ..exchange(what, from, to, fates) }
}

fn datagrams(count: u16) -> What {
    What::Datagrams { count, numbered: false }
}

fn assert_true(plan: &Plan) {
    if let Err(error) = says_the_truth(plan) {
        panic!("{error}");
    }
}

/// It said `vanished: only 60 of 173 B got this far`.
#[test]
fn segments_that_a_tunnel_puts_together_are_found_whatever_the_service_was() {
    for seed in 1..8 {
        let what = What::Connection { packets: 2, segments: 3 };
        assert_true(&plan(seed, vec![by_service(what, 2, 0, &[Fate::Arrives])]));
    }
}

/// It said `delivered`: the drop's pod was compared with the Service's address.
#[test]
fn what_is_dropped_inside_a_services_endpoint_is_not_delivered() {
    assert_true(&plan(1, vec![by_service(datagrams(2), 1, 2, &[Fate::DroppedInside])]));
}

/// It said `vanished` of a fragment that overtook the first one, and of its second half that its start was missing.
#[test]
fn a_fragment_that_overtakes_the_first_stays_one_path() {
    for seed in 1..8 {
        assert_true(&plan(seed, vec![exchange(What::Fragments(3), 0, 2, &[Fate::Arrives])]));
    }
}

/// It called the newest of them rejected, and the one that was refused dropped.
#[test]
fn of_equal_datagrams_the_one_that_is_freed_for_it_was_refused() {
    for seed in 1..8 {
        let fates = [Fate::Refused, Fate::Arrives, Fate::Arrives];
        assert_true(&plan(seed, vec![exchange(datagrams(4), 0, 1, &fates)]));
        assert_true(&plan(seed, vec![by_service(datagrams(4), 3, 3, &fates)]));
    }
}

/// It gave the dropped one's arrival to the next one, and called that `vanished`.
#[test]
fn of_equal_datagrams_a_dropped_one_does_not_arrive() {
    for seed in 1..8 {
        let fates = [Fate::Arrives, Fate::DroppedBefore, Fate::Arrives];
        assert_true(&plan(seed, vec![exchange(datagrams(5), 2, 0, &fates)]));
    }
}

/// It was sure that the first one had arrived.
#[test]
fn a_segment_that_is_sent_again_may_be_the_one_that_arrives() {
    for seed in 1..16 {
        let what = What::Connection { packets: 1, segments: 2 };
        assert_true(&plan(seed, vec![over_v6(what, 2, 0, &[Fate::LostOnWire, Fate::Arrives])]));
        assert_true(&plan(seed, vec![exchange(what, 2, 0, &[Fate::LostOnWire, Fate::Arrives])]));
    }
}

/// The answer was read before the question, and became a flow of its own: it said that the question vanished.
#[test]
fn an_answer_by_a_service_waits_for_its_question() {
    for seed in 1..8 {
        assert_true(&unsure(seed, vec![by_service(datagrams(3), 0, 2, &[Fate::Arrives])]));
    }
}

/// A packet that waited under another identity was taken for one whose own identity was read later.
#[test]
fn what_is_known_by_identity_comes_before_what_looks_alike() {
    for seed in 1..24 {
        let fates = [Fate::Flooded, Fate::DroppedInside, Fate::DroppedInside];
        assert_true(&unsure(seed, vec![exchange(datagrams(6), 0, 2, &fates)]));
    }
}

/// A path whose start is missing began on the receiver's node and then left the sender's; or held what is left of two
/// datagrams that look alike, and was sure of it.
#[test]
fn with_records_lost_the_nodes_stay_in_order_and_what_looks_alike_is_doubted() {
    for seed in 1..24 {
        let connection = What::Connection { packets: 2, segments: 3 };
        let traffic = vec![
            by_service(connection, 2, 0, &[Fate::Arrives]),
            exchange(datagrams(4), 0, 2, &[Fate::DroppedInside, Fate::DroppedAfter, Fate::Arrives]),
            by_service(datagrams(3), 0, 2, &[Fate::Arrives]),
        ];
        assert_true(&Plan { lost: 2 + seed % 5, ..plan(seed, traffic.clone()) });
        assert_true(&Plan { lost: 2 + seed % 5, ..unsure(seed, traffic) });
    }
}
