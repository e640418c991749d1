use std::process::Stdio;

use podtrace_protocol::codec::RawFrame;
use podtrace_protocol::frame::{Attached, Hello, PROTOCOL_VERSION};
use podtrace_protocol::inventory::Run;
use tokio::io::{AsyncReadExt as _, ReadHalf, SimplexStream, simplex};

use super::super::lifecycle::SETUP_TIMEOUT;
use super::*;
use crate::agent::transport::Process;

const AGENT: AgentId = AgentId(0);
const ACCOUNTING: podtrace_protocol::frame::Accounting = podtrace_protocol::frame::Accounting {
    produced: 0,
    sent: 0,
    lost_ring: 0,
    lost_map: 0,
    missed_probes: 0,
    unsampled: 0,
};

/// A node whose agent cannot be started: the tests hand in connections themselves.
fn node(name: &str) -> Node {
    Node { name: name.to_owned(), addresses: Vec::new(), run: Run::Command(Vec::new()) }
}

/// One agent, of which nothing came yet.
fn begun(now: Instant) -> Agents {
    Agents::begin([(node("node1"), Configuration::default())].into_iter(), None, BTreeSet::new(), now)
}

/// One agent, which traces.
fn traced(now: Instant) -> Agents {
    let mut agents = begun(now);
    trace(&mut agents, AGENT, now);
    assert!(agents.has_begun());
    agents
}

/// A connection to an agent, and what is sent to that.
fn connection() -> (Connection, ReadHalf<SimplexStream>) {
    let mut command = tokio::process::Command::new(std::env::current_exe().unwrap());
    command.arg("--help").stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    let (sent, input) = simplex(1 << 16);
    // Frames are handed in by `receive`.
    let output = Box::new(tokio::io::empty());
    (Connection { process: Process::Command(command.spawn().unwrap()), input: Box::new(input), output }, sent)
}

fn connect_now(agents: &mut Agents, id: AgentId, now: Instant) -> ReadHalf<SimplexStream> {
    let (connection, sent) = connection();
    let attempt = agents.agents[id.0].attempt;
    assert!(agents.handle(Event::Connected(id, attempt, Ok(connection)), now).is_empty());
    sent
}

fn fail_now(agents: &mut Agents, id: AgentId, now: Instant) -> Vec<Notification> {
    let attempt = agents.agents[id.0].attempt;
    agents.handle(Event::Connected(id, attempt, Err(anyhow::anyhow!("no route"))), now)
}

/// Hands in what an agent's connection yields.
fn receive(agents: &mut Agents, id: AgentId, frame: Option<FromAgent>, now: Instant) -> Vec<Notification> {
    let (connection, _) = agents.agents[id.0].connection.as_ref().unwrap();
    agents.handle(Event::Received((*connection, Ok(frame))), now)
}

/// Takes an agent from its connection to tracing.
fn trace(agents: &mut Agents, id: AgentId, now: Instant) -> Vec<Notification> {
    let _sent = connect_now(agents, id, now);
    let hello = Hello { protocol: PROTOCOL_VERSION, ..Hello::default() };
    receive(agents, id, Some(FromAgent::Hello(hello)), now);
    receive(agents, id, Some(FromAgent::Attached(Attached::default())), now);
    while stage(agents, id) == Stage::SyncingClock {
        receive(agents, id, Some(FromAgent::Clock { sent_ns: 1, node_ns: 2, received_ns: 3 }), now);
    }
    let notifications = receive(agents, id, Some(FromAgent::Started), now);
    assert_eq!(stage(agents, id), Stage::Tracing);
    // What the session does when an agent has joined.
    agents.set_node(id, id.0);
    notifications
}

fn stage(agents: &Agents, id: AgentId) -> Stage {
    agents.agents[id.0].lifecycle.stage()
}

/// Delay until a lost agent is started again.
fn delay(agents: &Agents, now: Instant) -> Duration {
    agents.agents[0].restart_at.unwrap().duration_since(now)
}

/// The first frame that was sent.
async fn first_sent(mut sent: ReadHalf<SimplexStream>) -> ToAgent {
    let length = sent.read_u32_le().await.unwrap();
    let mut bytes = vec![0; length as usize];
    sent.read_exact(&mut bytes).await.unwrap();
    ToAgent::from_raw(&RawFrame { kind: bytes[0], body: bytes.split_off(1).into() }).unwrap()
}

#[tokio::test]
async fn a_late_result_of_an_attempt_that_was_given_up_does_not_count() {
    let mut now = Instant::now();
    let mut agents = traced(now);
    receive(&mut agents, AGENT, None, now);
    now += RETRY_FIRST;
    agents.tick(now, false);
    let given_up = agents.agents[0].attempt;
    now += SETUP_TIMEOUT;
    assert!(agents.tick(now, false).is_empty(), "its loss is reported already");
    assert_eq!(stage(&agents, AGENT), Stage::Lost);

    // It comes before the next attempt.
    agents.handle(Event::Connected(AGENT, given_up, Ok(connection().0)), now);
    assert!(stage(&agents, AGENT) == Stage::Lost && agents.agents[0].connection.is_none());

    // It comes while the next attempt is under way.
    now += RETRY_MAX;
    agents.tick(now, false);
    agents.handle(Event::Connected(AGENT, given_up, Err(anyhow::anyhow!("too late"))), now);
    assert_eq!(stage(&agents, AGENT), Stage::Connecting, "the error is not of this attempt");
    agents.handle(Event::Connected(AGENT, given_up, Ok(connection().0)), now);
    assert!(stage(&agents, AGENT) == Stage::Connecting && agents.agents[0].connection.is_none());

    let sent = connect_now(&mut agents, AGENT, now);
    assert_eq!(first_sent(sent).await, ToAgent::Configure(Configuration::default()));
    assert_eq!(stage(&agents, AGENT), Stage::Attaching);
}

#[tokio::test]
async fn a_connection_that_comes_after_the_stop_is_dropped() {
    let now = Instant::now();
    let mut agents = begun(now);
    agents.stop(now);
    connect_now(&mut agents, AGENT, now);
    assert!(agents.agents[0].connection.is_none());
}

#[tokio::test]
async fn an_agent_that_ends_unasked_gives_the_engine_no_goodbye_and_is_started_again() {
    let now = Instant::now();
    let mut agents = traced(now);
    let goodbye = FromAgent::Goodbye { counters: ACCOUNTING };
    let notifications = receive(&mut agents, AGENT, Some(goodbye), now);
    assert!(
        matches!(&notifications[..], [Notification::Left { why: Some(why), .. }] if why.contains("asked")),
        "{notifications:?}"
    );
    assert_eq!(delay(&agents, now), RETRY_FIRST);
}

#[tokio::test]
async fn restarts_are_forgotten_once_an_agent_has_traced_for_a_while() {
    let mut now = Instant::now();
    let mut agents = traced(now);
    let mut delays = Vec::new();
    for traces_for in [Duration::ZERO, Duration::ZERO, STABLE_AFTER] {
        now += traces_for;
        receive(&mut agents, AGENT, None, now);
        delays.push(delay(&agents, now));
        now += delay(&agents, now);
        agents.tick(now, false);
        trace(&mut agents, AGENT, now);
    }
    assert_eq!(delays, [RETRY_FIRST, RETRY_FIRST * 2, RETRY_FIRST]);
}

#[tokio::test]
async fn a_late_node_is_tried_again_after_its_first_set_up_failed() {
    let mut now = Instant::now();
    let mut agents = traced(now);
    agents.add_late(node("node2"), Configuration::default(), now);
    let late = AgentId(1);
    let failed = fail_now(&mut agents, late, now);
    assert!(matches!(&failed[..], [Notification::Failed { .. }]), "{failed:?}");
    now += RETRY_FIRST;
    agents.tick(now, false);
    assert_eq!(stage(&agents, late), Stage::Connecting);
    let failed = fail_now(&mut agents, late, now);
    assert!(failed.is_empty(), "reported once: {failed:?}");
    now += RETRY_FIRST * 2;
    agents.tick(now, false);
    let joined = trace(&mut agents, late, now);
    assert!(matches!(&joined[..], [.., Notification::Joined { frames, .. }] if !frames.is_empty()));
}
