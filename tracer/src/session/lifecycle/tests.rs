use super::*;
use podtrace_protocol::codec::read_raw;
use podtrace_protocol::frame::{Accounting, Attached, Hello};

const CLOCK: FromAgent = FromAgent::Clock { sent_ns: 1, node_ns: 2, received_ns: 3 };
const HEARTBEAT: FromAgent = FromAgent::Heartbeat { now_ns: 1, counters: ACCOUNTING };
const ACCOUNTING: Accounting =
    Accounting { produced: 0, sent: 0, lost_ring: 0, lost_map: 0, missed_probes: 0, unsampled: 0 };

fn hello(protocol: u32) -> FromAgent {
    FromAgent::Hello(Hello { protocol, ..Hello::default() })
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// An agent that traces since `now`.
fn traced(now: Instant) -> Lifecycle {
    let mut lifecycle = Lifecycle::begin(now);
    assert_eq!(lifecycle.connected(now), [Action::Configure]);
    assert_eq!(lifecycle.handle_frame(&hello(PROTOCOL_VERSION), now), []);
    assert_eq!(lifecycle.handle_frame(&FromAgent::Attached(Attached::default()), now), []);
    assert_eq!(lifecycle.compare_clocks(now), [Action::AskClock]);
    for _ in 1..CLOCK_SAMPLES {
        assert_eq!(lifecycle.handle_frame(&CLOCK, now), [Action::AskClock]);
    }
    assert_eq!(lifecycle.handle_frame(&CLOCK, now), []);
    assert_eq!(lifecycle.stage(), Stage::ClockSynced);
    assert_eq!(lifecycle.start(now), [Action::Start]);
    assert_eq!(lifecycle.handle_frame(&FromAgent::Started, now), [Action::BeginDelivery]);
    lifecycle
}

fn lost(actions: &[Action]) -> &str {
    match actions {
        [Action::Lost(why)] => why,
        _ => panic!("not lost: {actions:?}"),
    }
}

#[test]
fn from_the_start_to_the_goodbye() {
    let now = Instant::now();
    let mut lifecycle = traced(now);
    assert_eq!(lifecycle.stop(now), [Action::Stop]);
    assert_eq!(lifecycle.handle_frame(&FromAgent::Goodbye { counters: ACCOUNTING }, now), []);
    assert_eq!(lifecycle.handle_close(None, now), []);
    assert_eq!(lifecycle.stage(), Stage::Ended);
}

#[test]
fn nothing_happens_before_its_turn() {
    let now = Instant::now();
    let mut lifecycle = Lifecycle::begin(now);
    assert_eq!(lifecycle.compare_clocks(now), []);
    assert_eq!(lifecycle.start(now), []);
    lifecycle.connected(now);
    assert_eq!(lifecycle.connected(now), []);
    assert_eq!(lifecycle.handle_frame(&FromAgent::Started, now), []);
    assert_eq!(lifecycle.stage(), Stage::Attaching);
    // A trace that ends now has no use for it.
    assert_eq!(lifecycle.stop(now), []);
    assert_eq!(lifecycle.stage(), Stage::Ended);
}

#[test]
fn another_version_of_the_protocol_is_refused() {
    let now = Instant::now();
    let mut lifecycle = Lifecycle::begin(now);
    lifecycle.connected(now);
    let actions = lifecycle.handle_frame(&hello(PROTOCOL_VERSION + 1), now);
    assert!(lost(&actions).contains("install the same version"));
}

/// What an agent of the protocol's previous version sends (`tests/previous/README.md`).
#[test]
fn an_agent_of_the_previous_version_is_refused_with_what_to_do() {
    let mut sent = &include_bytes!("../../../../tests/previous/hello.frames")[..];
    let frame = read_raw(&mut sent).unwrap().unwrap();
    let hello = FromAgent::from_raw(frame).unwrap();
    let now = Instant::now();
    let mut lifecycle = Lifecycle::begin(now);
    lifecycle.connected(now);
    let actions = lifecycle.handle_frame(&hello, now);
    let why = lost(&actions);
    let versions = format!("speaks version {}, this one version {PROTOCOL_VERSION}", PROTOCOL_VERSION - 1);
    assert!(why.contains(&versions) && why.contains("install the same version there"), "{why}");
}

#[test]
fn a_set_up_has_limits() {
    let now = Instant::now();
    let mut lifecycle = Lifecycle::begin(now);
    lifecycle.connected(now);
    assert_eq!(lifecycle.tick(now + FIRST_FRAME_TIMEOUT - seconds(1), true), []);
    assert!(lost(&lifecycle.tick(now + FIRST_FRAME_TIMEOUT, true)).contains("20 s"));

    let mut lifecycle = Lifecycle::begin(now);
    lifecycle.connected(now);
    lifecycle.handle_frame(&hello(PROTOCOL_VERSION), now);
    assert_eq!(lifecycle.tick(now + FIRST_FRAME_TIMEOUT, true), []);
    assert!(lost(&lifecycle.tick(now + SETUP_TIMEOUT, true)).contains("120 s"));

    // It waits for others, which have limits of their own.
    let mut lifecycle = Lifecycle::begin(now);
    lifecycle.connected(now);
    lifecycle.handle_frame(&FromAgent::Attached(Attached::default()), now);
    assert_eq!(lifecycle.tick(now + SETUP_TIMEOUT * 3, true), []);
}

#[test]
fn an_end_during_the_set_up_is_a_loss() {
    let now = Instant::now();
    let mut lifecycle = Lifecycle::begin(now);
    assert_eq!(lost(&lifecycle.handle_close(Some("no such command".to_owned()), now)), "no such command");
    let mut lifecycle = Lifecycle::begin(now);
    lifecycle.connected(now);
    assert!(lost(&lifecycle.handle_close(None, now)).contains("before it was ready"));
    assert_eq!(lifecycle.handle_close(None, now), []);
}

#[test]
fn silence_is_reported_once_and_then_ends_it() {
    let now = Instant::now();
    let mut lifecycle = traced(now);
    lifecycle.handle_frame(&CLOCK, now);
    assert_eq!(lifecycle.tick(now + seconds(1), true), [Action::AskClock]);
    assert_eq!(lifecycle.tick(now + SILENCE_WARNING, true), [Action::AskClock, Action::WarnSilent]);
    assert_eq!(lifecycle.tick(now + seconds(3), true), [Action::AskClock]);
    assert!(lost(&lifecycle.tick(now + SILENCE_TIMEOUT, true)).contains("said nothing for 10 s"));
    assert_eq!(lifecycle.tick(now + SILENCE_TIMEOUT, true), []);
}

#[test]
fn an_agent_that_speaks_again_is_kept() {
    let now = Instant::now();
    let mut lifecycle = traced(now);
    lifecycle.tick(now + SILENCE_WARNING, true);
    let later = now + seconds(9);
    // Its heartbeat alone is no proof that it reads.
    assert_eq!(lifecycle.handle_frame(&HEARTBEAT, later), []);
    assert_eq!(lifecycle.handle_frame(&CLOCK, later), [Action::ReportRecovered]);
    assert_eq!(lifecycle.tick(later + seconds(1), true), [Action::AskClock]);
}

#[test]
fn an_agent_that_reads_nothing_is_given_up() {
    let now = Instant::now();
    let mut lifecycle = traced(now);
    let mut actions = Vec::new();
    for second in 0..=10 {
        let now = now + seconds(second);
        assert_eq!(lifecycle.handle_frame(&HEARTBEAT, now), []);
        actions = lifecycle.tick(now, true);
    }
    assert!(lost(&actions).contains("answered nothing for 10 s"));
}

#[test]
fn where_all_are_silent_nobody_is_given_up_soon() {
    let now = Instant::now();
    let mut lifecycle = traced(now);
    lifecycle.tick(now, false);
    assert_eq!(lifecycle.tick(now + SILENCE_TIMEOUT * 2, false), [Action::AskClock, Action::WarnSilent]);
    lost(&lifecycle.tick(now + SILENCE_TIMEOUT_ALL, false));
}

#[test]
fn a_tracer_that_stood_still_blames_nobody() {
    let now = Instant::now();
    let mut lifecycle = traced(now);
    lifecycle.tick(now, true);
    let later = now + SILENCE_TIMEOUT * 10;
    lifecycle.reset_timers(later);
    assert_eq!(lifecycle.tick(later, true), [Action::AskClock]);
}

#[test]
fn a_tracer_that_stood_still_blames_nobody_during_the_set_up_or_the_stop() {
    let now = Instant::now();
    let later = now + GOODBYE_TOTAL_TIMEOUT * 2;
    let mut setting_up = vec![Lifecycle::begin(now)];
    for frames in [&[][..], &[hello(PROTOCOL_VERSION)], &[FromAgent::Attached(Attached::default())]] {
        let mut lifecycle = Lifecycle::begin(now);
        lifecycle.connected(now);
        frames.iter().for_each(|frame| drop(lifecycle.handle_frame(frame, now)));
        lifecycle.compare_clocks(now);
        setting_up.push(lifecycle);
    }
    for mut lifecycle in setting_up {
        lifecycle.reset_timers(later);
        assert_eq!(lifecycle.tick(later, true), [], "{:?}", lifecycle.stage());
    }

    let mut lifecycle = traced(now);
    lifecycle.stop(now);
    lifecycle.reset_timers(later);
    assert_eq!(lifecycle.tick(later, true), [], "its goodbye may wait to be read");
    lost(&lifecycle.tick(later + GOODBYE_IDLE_TIMEOUT, true));
}

#[test]
fn a_goodbye_that_nobody_asked_for_is_a_loss() {
    let now = Instant::now();
    let goodbye = FromAgent::Goodbye { counters: ACCOUNTING };
    let mut lifecycle = traced(now);
    assert!(lost(&lifecycle.handle_frame(&goodbye, now)).contains("without being asked"));
    assert_eq!(lifecycle.stage(), Stage::Lost);

    let mut lifecycle = Lifecycle::begin(now);
    lifecycle.connected(now);
    assert!(lost(&lifecycle.handle_frame(&goodbye, now)).contains("without being asked"));
}

#[test]
fn a_goodbye_is_not_waited_for_without_end() {
    let now = Instant::now();
    let mut lifecycle = traced(now);
    lifecycle.handle_frame(&CLOCK, now);
    lifecycle.stop(now);
    // It drains.
    assert_eq!(lifecycle.tick(now + SILENCE_TIMEOUT, true), []);
    lifecycle.handle_frame(&FromAgent::Events(bytes::Bytes::new()), now + SILENCE_TIMEOUT);
    assert_eq!(lifecycle.tick(now + GOODBYE_IDLE_TIMEOUT, true), [], "it still sends");
    lost(&lifecycle.tick(now + GOODBYE_IDLE_TIMEOUT + SILENCE_TIMEOUT, true));

    let mut lifecycle = traced(now);
    lifecycle.tick(now + SILENCE_WARNING, true);
    lifecycle.stop(now + SILENCE_WARNING);
    lost(&lifecycle.tick(now + SILENCE_TIMEOUT, true));
}

#[test]
fn a_request_under_way_does_not_hide_that_nothing_is_said() {
    let now = Instant::now();
    let mut lifecycle = traced(now);
    lifecycle.tick(now, true);
    lifecycle.handle_frame(&HEARTBEAT, now + Duration::from_millis(30));
    assert!(lost(&lifecycle.tick(now + SILENCE_TIMEOUT, true)).contains("said nothing for 10 s"));
}
