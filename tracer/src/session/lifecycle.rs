//! The lifecycle of one agent, as a pure state machine. Input: frames, the end of the connection, and the time. Output:
//! actions.
//!
//! ```text
//! Connecting ─ Configured ─ Attached ─ Comparing ─ Compared ─ Starting ─ Tracing ─ Stopping ─ Ended
//!      └───────────┴───────────┴──────────┴─────────────┴─────────┴───────────┴────────┴─ Lost
//! ```
//!
//! 1. *Connecting*: its process is being started. Once connected, it gets its configuration.
//! 2. *Configured*: it reads its node's network and attaches its eBPF programs.
//! 3. *Attached*: it waits. Initial agents compare clocks when all are attached: attaching loads the CPUs, which lengthens
//!    round trips and so the error of the clocks.
//! 4. *Comparing*: it answers [`CLOCK_ROUNDS`] requests for its clock, one after the other.
//! 5. *Compared*: it waits again. Initial agents start together, so that no path misses its beginning.
//! 6. *Starting*, *Tracing*: its events are part of the trace from its `Started` frame on.
//! 7. *Stopping*: it sends what is left in its ring buffer, then its goodbye.
//! 8. *Ended* after the goodbye, or by a stop before *Tracing*; else *Lost*. A lost agent may begin again with
//!    *Connecting*.
//!
//! When an agent may leave steps 3 and 5 is decided in [`agents`](super::agents).
//!
//! An agent that traces sends a heartbeat every 30 ms. One that sends nothing for [`SILENCE_WARNING`] is reported as
//! silent; after [`SILENCE_LIMIT`] it is given up. If no agent sends anything, the limit is [`SILENCE_LIMIT_ALL`]: then the
//! common connection stalls, such as an API server that restarts. An agent that sends frames but does not answer
//! requests for its clock reads nothing, and counts as silent too.

use std::time::Duration;

use podtrace_protocol::frame::{FromAgent, PROTOCOL_VERSION};
use tokio::time::Instant;

/// Requests for an agent's clock before it starts; the one with the shortest round trip counts.
const CLOCK_ROUNDS: u32 = 8;

/// Time limit for an agent's first frame after its start.
const FIRST_FRAME: Duration = Duration::from_secs(20);

/// Time limit for each step of the set-up. Verifying the programs takes long on a busy node.
pub(super) const SETUP: Duration = Duration::from_secs(120);

/// Silence of an agent that traces after which the user is warned.
pub(super) const SILENCE_WARNING: Duration = Duration::from_secs(2);

/// Silence after which it is given up while other agents send frames. A single agent has [`SILENCE_LIMIT_ALL`].
pub(super) const SILENCE_LIMIT: Duration = Duration::from_secs(10);

/// The same while all are silent.
pub(super) const SILENCE_LIMIT_ALL: Duration = Duration::from_secs(60);

/// Time limit for the goodbye after a stop, from the last frame on: an agent that still sends what it has is not given up.
const GOODBYE: Duration = Duration::from_secs(30);

/// Time limit for the goodbye after a stop, whatever the agent sends.
const GOODBYE_AT_LAST: Duration = Duration::from_secs(300);

/// State of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Connecting,
    Configured,
    Attached,
    Comparing,
    Compared,
    Starting,
    Tracing,
    Stopping,
    Ended,
    Lost,
}

impl Stage {
    /// Whether the agent sends nothing more.
    pub(super) fn is_over(self) -> bool {
        self >= Self::Ended
    }
}

/// What the caller has to do or to report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Send it the configuration of its node.
    Configure,
    /// Ask for its clock.
    AskClock,
    /// Let it emit events.
    Start,
    /// Ask it to end.
    Stop,
    /// Take its events into the trace from here on.
    Traced,
    /// Warn: it has been silent for [`SILENCE_WARNING`].
    Silent,
    /// Report that it is no longer silent.
    Active,
    /// End its process: it is lost, for this reason.
    Lost(String),
}

/// The lifecycle of one agent.
#[derive(Debug)]
pub(super) struct Lifecycle {
    stage: Stage,
    /// When this stage began; before *Attached*, when the last frame came.
    since: Instant,
    last_frame_at: Instant,
    /// When the oldest request for its clock was sent that it has not answered.
    asked_at: Option<Instant>,
    /// Whether any frame came.
    is_reached: bool,
    clock_answers: u32,
    is_silent: bool,
}

impl Lifecycle {
    pub(super) fn begin(now: Instant) -> Self {
        Self {
            stage: Stage::Connecting,
            since: now,
            last_frame_at: now,
            asked_at: None,
            is_reached: false,
            clock_answers: 0,
            is_silent: false,
        }
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage
    }

    /// Its process was started.
    pub(super) fn connected(&mut self, now: Instant) -> Vec<Action> {
        if self.stage != Stage::Connecting {
            return Vec::new();
        }
        self.enter(Stage::Configured, now);
        vec![Action::Configure]
    }

    /// A frame came.
    pub(super) fn frame(&mut self, frame: &FromAgent, now: Instant) -> Vec<Action> {
        if self.stage.is_over() {
            return Vec::new();
        }
        self.last_frame_at = now;
        self.is_reached = true;
        if self.stage < Stage::Attached {
            self.since = now;
        }
        let mut actions = Vec::new();
        match (frame, self.stage) {
            (FromAgent::Hello(hello), _) if hello.protocol != PROTOCOL_VERSION => {
                let why = format!(
                    "protocol mismatch: podtrace {} there speaks version {}, this one version {PROTOCOL_VERSION}: install \
                     the same version there",
                    hello.version, hello.protocol
                );
                return self.lose(why, now);
            }
            (FromAgent::Failed { error }, stage) if stage < Stage::Tracing => {
                return self.lose(error.clone(), now);
            }
            (FromAgent::Attached(_), Stage::Configured) => self.enter(Stage::Attached, now),
            (FromAgent::Clock { .. }, stage) => {
                self.asked_at = None;
                if stage == Stage::Comparing {
                    self.clock_answers += 1;
                    if self.clock_answers < CLOCK_ROUNDS {
                        actions.extend(self.ask_clock(now));
                    } else {
                        self.enter(Stage::Compared, now);
                    }
                }
            }
            (FromAgent::Started, Stage::Starting) => {
                self.enter(Stage::Tracing, now);
                actions.push(Action::Traced);
            }
            (FromAgent::Goodbye { .. }, _) => self.enter(Stage::Ended, now),
            _ => {}
        }
        if self.is_silent && self.asked_at.is_none_or(|at| now.duration_since(at) < SILENCE_WARNING) {
            self.is_silent = false;
            actions.push(Action::Active);
        }
        actions
    }

    /// The connection ended, with or without an error, or could not be made.
    pub(super) fn closed(&mut self, error: Option<String>, now: Instant) -> Vec<Action> {
        if self.stage.is_over() {
            return Vec::new();
        }
        let why = error.unwrap_or_else(|| match self.stage {
            Stage::Tracing | Stage::Stopping => "its stream ended".to_owned(),
            _ => "its agent exited before it was ready; see its messages above".to_owned(),
        });
        self.lose(why, now)
    }

    /// All agents that it waits for are attached.
    pub(super) fn compare_clocks(&mut self, now: Instant) -> Vec<Action> {
        if self.stage != Stage::Attached {
            return Vec::new();
        }
        self.enter(Stage::Comparing, now);
        self.ask_clock(now)
    }

    /// All agents that it waits for have compared clocks.
    pub(super) fn start(&mut self, now: Instant) -> Vec<Action> {
        if self.stage != Stage::Compared {
            return Vec::new();
        }
        self.enter(Stage::Starting, now);
        vec![Action::Start]
    }

    /// The trace ends. An agent that is still being set up ends at once.
    pub(super) fn stop(&mut self, now: Instant) -> Vec<Action> {
        match self.stage {
            Stage::Tracing => {
                self.enter(Stage::Stopping, now);
                vec![Action::Stop]
            }
            Stage::Stopping | Stage::Ended | Stage::Lost => Vec::new(),
            _ => {
                self.enter(Stage::Ended, now);
                Vec::new()
            }
        }
    }

    /// A timer tick. `others_active`: another agent that traces sent a frame lately.
    pub(super) fn tick(&mut self, now: Instant, others_active: bool) -> Vec<Action> {
        match self.stage {
            Stage::Connecting => self.limit(SETUP, now),
            Stage::Configured if !self.is_reached => self.limit(FIRST_FRAME, now),
            // No limit: it waits for other agents, which have their own.
            Stage::Attached | Stage::Compared => Vec::new(),
            Stage::Configured | Stage::Comparing | Stage::Starting => self.limit(SETUP, now),
            Stage::Tracing => {
                let patience = if others_active { SILENCE_LIMIT } else { SILENCE_LIMIT_ALL };
                let silent = self.silent_for(now);
                if silent >= patience {
                    let why = self.silence(now);
                    return self.lose(why, now);
                }
                let mut actions = self.ask_clock(now);
                if silent >= SILENCE_WARNING && !self.is_silent {
                    self.is_silent = true;
                    actions.push(Action::Silent);
                }
                actions
            }
            // One that was silent before the stop keeps its limit.
            Stage::Stopping if self.is_silent && self.silent_for(now) >= SILENCE_LIMIT => {
                let why = self.silence(now);
                self.lose(why, now)
            }
            Stage::Stopping
                if now.duration_since(self.since.max(self.last_frame_at)) >= GOODBYE
                    || now.duration_since(self.since) >= GOODBYE_AT_LAST =>
            {
                self.lose(
                    format!("it did not end within {} s", now.duration_since(self.since).as_secs()),
                    now,
                )
            }
            Stage::Stopping | Stage::Ended | Stage::Lost => Vec::new(),
        }
    }

    /// Starts the silence anew: this process itself stalled, and the frames of that time are still to be read.
    pub(super) fn reset_silence_timer(&mut self, now: Instant) {
        self.last_frame_at = now;
        self.asked_at = self.asked_at.map(|_| now);
    }

    /// How long it has sent or answered nothing.
    pub(super) fn silent_for(&self, now: Instant) -> Duration {
        let unanswered = self.asked_at.map_or(Duration::ZERO, |at| now.duration_since(at));
        now.duration_since(self.last_frame_at).max(unanswered)
    }

    /// The silence as a sentence.
    pub(super) fn silence(&self, now: Instant) -> String {
        let silent = self.silent_for(now);
        let what = if now.duration_since(self.last_frame_at) >= silent { "said" } else { "answered" };
        format!("it has {what} nothing for {} s", silent.as_secs())
    }

    fn limit(&mut self, limit: Duration, now: Instant) -> Vec<Action> {
        if now.duration_since(self.since) < limit {
            return Vec::new();
        }
        self.lose(format!("no answer from its agent within {} s", limit.as_secs()), now)
    }

    fn ask_clock(&mut self, now: Instant) -> Vec<Action> {
        self.asked_at.get_or_insert(now);
        vec![Action::AskClock]
    }

    fn lose(&mut self, why: String, now: Instant) -> Vec<Action> {
        self.enter(Stage::Lost, now);
        vec![Action::Lost(why)]
    }

    fn enter(&mut self, stage: Stage, now: Instant) {
        self.stage = stage;
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use podtrace_protocol::frame::{Accounting, Attached, Hello};

    const CLOCK: FromAgent = FromAgent::Clock { sent_ns: 1, node_ns: 2, received_ns: 3 };
    const HEARTBEAT: FromAgent = FromAgent::Heartbeat { now_ns: 1, counters: ACCOUNTING };
    const ACCOUNTING: Accounting =
        Accounting { produced: 0, sent: 0, lost_ring: 0, lost_map: 0, missed_probes: 0 };

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
        assert_eq!(lifecycle.frame(&hello(PROTOCOL_VERSION), now), []);
        assert_eq!(lifecycle.frame(&FromAgent::Attached(Attached::default()), now), []);
        assert_eq!(lifecycle.compare_clocks(now), [Action::AskClock]);
        for _ in 1..CLOCK_ROUNDS {
            assert_eq!(lifecycle.frame(&CLOCK, now), [Action::AskClock]);
        }
        assert_eq!(lifecycle.frame(&CLOCK, now), []);
        assert_eq!(lifecycle.stage(), Stage::Compared);
        assert_eq!(lifecycle.start(now), [Action::Start]);
        assert_eq!(lifecycle.frame(&FromAgent::Started, now), [Action::Traced]);
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
        assert_eq!(lifecycle.frame(&FromAgent::Goodbye { counters: ACCOUNTING }, now), []);
        assert_eq!(lifecycle.closed(None, now), []);
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
        assert_eq!(lifecycle.frame(&FromAgent::Started, now), []);
        assert_eq!(lifecycle.stage(), Stage::Configured);
        // A trace that ends now has no use for it.
        assert_eq!(lifecycle.stop(now), []);
        assert_eq!(lifecycle.stage(), Stage::Ended);
    }

    #[test]
    fn another_version_of_the_protocol_is_refused() {
        let now = Instant::now();
        let mut lifecycle = Lifecycle::begin(now);
        lifecycle.connected(now);
        let actions = lifecycle.frame(&hello(PROTOCOL_VERSION + 1), now);
        assert!(lost(&actions).contains("install the same version"));
    }

    #[test]
    fn a_set_up_has_limits() {
        let now = Instant::now();
        let mut lifecycle = Lifecycle::begin(now);
        lifecycle.connected(now);
        assert_eq!(lifecycle.tick(now + FIRST_FRAME - seconds(1), true), []);
        assert!(lost(&lifecycle.tick(now + FIRST_FRAME, true)).contains("20 s"));

        let mut lifecycle = Lifecycle::begin(now);
        lifecycle.connected(now);
        lifecycle.frame(&hello(PROTOCOL_VERSION), now);
        assert_eq!(lifecycle.tick(now + FIRST_FRAME, true), []);
        assert!(lost(&lifecycle.tick(now + SETUP, true)).contains("120 s"));

        // It waits for others, which have limits of their own.
        let mut lifecycle = Lifecycle::begin(now);
        lifecycle.connected(now);
        lifecycle.frame(&FromAgent::Attached(Attached::default()), now);
        assert_eq!(lifecycle.tick(now + SETUP * 3, true), []);
    }

    #[test]
    fn an_end_during_the_set_up_is_a_loss() {
        let now = Instant::now();
        let mut lifecycle = Lifecycle::begin(now);
        assert_eq!(lost(&lifecycle.closed(Some("no such command".to_owned()), now)), "no such command");
        let mut lifecycle = Lifecycle::begin(now);
        lifecycle.connected(now);
        assert!(lost(&lifecycle.closed(None, now)).contains("before it was ready"));
        assert_eq!(lifecycle.closed(None, now), []);
    }

    #[test]
    fn silence_is_reported_once_and_then_ends_it() {
        let now = Instant::now();
        let mut lifecycle = traced(now);
        lifecycle.frame(&CLOCK, now);
        assert_eq!(lifecycle.tick(now + seconds(1), true), [Action::AskClock]);
        assert_eq!(lifecycle.tick(now + SILENCE_WARNING, true), [Action::AskClock, Action::Silent]);
        assert_eq!(lifecycle.tick(now + seconds(3), true), [Action::AskClock]);
        assert!(lost(&lifecycle.tick(now + SILENCE_LIMIT, true)).contains("said nothing for 10 s"));
        assert_eq!(lifecycle.tick(now + SILENCE_LIMIT, true), []);
    }

    #[test]
    fn an_agent_that_speaks_again_is_kept() {
        let now = Instant::now();
        let mut lifecycle = traced(now);
        lifecycle.tick(now + SILENCE_WARNING, true);
        let later = now + seconds(9);
        // Its heartbeat alone is no proof that it reads.
        assert_eq!(lifecycle.frame(&HEARTBEAT, later), []);
        assert_eq!(lifecycle.frame(&CLOCK, later), [Action::Active]);
        assert_eq!(lifecycle.tick(later + seconds(1), true), [Action::AskClock]);
    }

    #[test]
    fn an_agent_that_reads_nothing_is_given_up() {
        let now = Instant::now();
        let mut lifecycle = traced(now);
        let mut actions = Vec::new();
        for second in 0..=10 {
            let now = now + seconds(second);
            assert_eq!(lifecycle.frame(&HEARTBEAT, now), []);
            actions = lifecycle.tick(now, true);
        }
        assert!(lost(&actions).contains("answered nothing for 10 s"));
    }

    #[test]
    fn where_all_are_silent_nobody_is_given_up_soon() {
        let now = Instant::now();
        let mut lifecycle = traced(now);
        lifecycle.tick(now, false);
        assert_eq!(lifecycle.tick(now + SILENCE_LIMIT * 2, false), [Action::AskClock, Action::Silent]);
        lost(&lifecycle.tick(now + SILENCE_LIMIT_ALL, false));
    }

    #[test]
    fn a_tracer_that_stood_still_blames_nobody() {
        let now = Instant::now();
        let mut lifecycle = traced(now);
        lifecycle.tick(now, true);
        let later = now + SILENCE_LIMIT * 10;
        lifecycle.reset_silence_timer(later);
        assert_eq!(lifecycle.tick(later, true), [Action::AskClock]);
    }

    #[test]
    fn a_goodbye_is_not_waited_for_without_end() {
        let now = Instant::now();
        let mut lifecycle = traced(now);
        lifecycle.frame(&CLOCK, now);
        lifecycle.stop(now);
        // It drains.
        assert_eq!(lifecycle.tick(now + SILENCE_LIMIT, true), []);
        lifecycle.frame(&FromAgent::Events(bytes::Bytes::new()), now + SILENCE_LIMIT);
        assert_eq!(lifecycle.tick(now + GOODBYE, true), [], "it still sends");
        lost(&lifecycle.tick(now + GOODBYE + SILENCE_LIMIT, true));

        let mut lifecycle = traced(now);
        lifecycle.tick(now + SILENCE_WARNING, true);
        lifecycle.stop(now + SILENCE_WARNING);
        lost(&lifecycle.tick(now + SILENCE_LIMIT, true));
    }
}
