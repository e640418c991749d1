//! The life of one agent as a pure state machine: what arrives and what time it is in, what to do out.
//!
//! ```text
//! Connecting ─ Configured ─ Attached ─ Comparing ─ Compared ─ Starting ─ Tracing ─ Stopping ─ Ended
//!      └───────────┴───────────┴──────────┴─────────────┴─────────┴───────────┴────────┴─ Lost
//! ```
//!
//! 1. *Connecting*: its process is being started. Connected, it gets its configuration.
//! 2. *Configured*: it reads its node's network and attaches its programs.
//! 3. *Attached*: it waits. The agents that a trace begins with compare clocks when all are attached: nothing else is
//!    under way then, which keeps the bounds of the clocks close.
//! 4. *Comparing*: it answers [`CLOCK_ROUNDS`] questions for its clock, one after the other.
//! 5. *Compared*: it waits again. The first agents start together, so that no path lacks its beginning.
//! 6. *Starting*, *Tracing*: from `Started` on its events are part of the trace.
//! 7. *Stopping*: it drains what it has, and says goodbye.
//! 8. *Ended* after its goodbye, *Lost* without one. A lost agent may begin again with *Connecting*.
//!
//! Agents of the beginning and those that join later differ only in who waits for whom in steps 3 and 5, which is
//! decided in [`agents`](super::agents).
//!
//! An agent that traces is never quiet: it sends a heartbeat every 30 ms. After [`QUIET`] it is reported as silent, and
//! given up after [`GIVE_UP`], or [`GIVE_UP_ALL`] where no agent says anything: that is a stalled connection, such as
//! an API server that restarts, and nobody waits for one of them then. An agent that speaks but does not answer
//! questions for its clock reads nothing of what it is sent, and counts as silent too.

use std::time::Duration;

use podtrace_protocol::frame::{FromAgent, PROTOCOL_VERSION};
use tokio::time::Instant;

/// Questions for an agent's clock before its first packet; the quickest answer counts.
const CLOCK_ROUNDS: u32 = 8;

/// How long after its start an agent may take to send its first frame.
const REACH: Duration = Duration::from_secs(20);

/// How long it may take for each step of the set-up: the kernel's verifier has much to do, and may have little of a CPU
/// to do it with.
pub(super) const SETUP: Duration = Duration::from_secs(120);

/// How long an agent that traces may say nothing before the user is warned.
pub(super) const QUIET: Duration = Duration::from_secs(2);

/// How long it may say nothing before it is given up, while others speak.
pub(super) const GIVE_UP: Duration = Duration::from_secs(10);

/// The same where all are silent.
pub(super) const GIVE_UP_ALL: Duration = Duration::from_secs(60);

/// How long it may take to drain its buffers and say goodbye.
const GOODBYE: Duration = Duration::from_secs(30);

/// Where an agent is in its life.
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
    /// Nothing more comes of it.
    pub(super) fn is_over(self) -> bool {
        self >= Self::Ended
    }
}

/// What follows from an input.
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
    /// Its events are part of the trace from here on.
    Traced,
    /// It has said nothing, or answered nothing, for [`QUIET`].
    Quiet,
    /// It speaks again.
    SpeaksAgain,
    /// It is lost, for this reason: end its process.
    Lost(String),
}

/// The life of one agent.
#[derive(Debug)]
pub(super) struct Life {
    stage: Stage,
    /// When this stage began, or in a set-up when the last frame came.
    since: Instant,
    /// When its last frame came.
    heard_at: Instant,
    /// When the oldest question for its clock was sent that it has not answered.
    asked_at: Option<Instant>,
    /// Whether any frame came.
    is_reached: bool,
    answers: u32,
    is_quiet: bool,
}

impl Life {
    pub(super) fn begin(now: Instant) -> Self {
        Self {
            stage: Stage::Connecting,
            since: now,
            heard_at: now,
            asked_at: None,
            is_reached: false,
            answers: 0,
            is_quiet: false,
        }
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage
    }

    /// Its process runs.
    pub(super) fn connected(&mut self, now: Instant) -> Vec<Action> {
        if self.stage != Stage::Connecting {
            return Vec::new();
        }
        self.enter(Stage::Configured, now);
        vec![Action::Configure]
    }

    /// It sent a frame.
    pub(super) fn frame(&mut self, frame: &FromAgent, now: Instant) -> Vec<Action> {
        if self.stage.is_over() {
            return Vec::new();
        }
        self.heard_at = now;
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
                    self.answers += 1;
                    if self.answers < CLOCK_ROUNDS {
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
        if self.is_quiet && self.asked_at.is_none_or(|at| now.duration_since(at) < QUIET) {
            self.is_quiet = false;
            actions.push(Action::SpeaksAgain);
        }
        actions
    }

    /// Its stream ended, in order or by an error; or it could not be started.
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

    /// Those that it waits for are attached, too.
    pub(super) fn compare_clocks(&mut self, now: Instant) -> Vec<Action> {
        if self.stage != Stage::Attached {
            return Vec::new();
        }
        self.enter(Stage::Comparing, now);
        self.ask_clock(now)
    }

    /// Those that it waits for know their clocks, too.
    pub(super) fn start(&mut self, now: Instant) -> Vec<Action> {
        if self.stage != Stage::Compared {
            return Vec::new();
        }
        self.enter(Stage::Starting, now);
        vec![Action::Start]
    }

    /// The trace ends. An agent that is not part of it yet is of no use any more.
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

    /// Time has passed; `others_speak` says whether another agent that traces has been heard of lately.
    pub(super) fn tick(&mut self, now: Instant, others_speak: bool) -> Vec<Action> {
        match self.stage {
            Stage::Connecting => self.limit(SETUP, now),
            Stage::Configured if !self.is_reached => self.limit(REACH, now),
            // It may wait for others, for as long as they may take.
            Stage::Attached | Stage::Compared => Vec::new(),
            Stage::Configured | Stage::Comparing | Stage::Starting => self.limit(SETUP, now),
            Stage::Tracing => {
                let patience = if others_speak { GIVE_UP } else { GIVE_UP_ALL };
                let quiet = self.quiet_for(now);
                if quiet >= patience {
                    let why = self.silence(now);
                    return self.lose(why, now);
                }
                let mut actions = self.ask_clock(now);
                if quiet >= QUIET && !self.is_quiet {
                    self.is_quiet = true;
                    actions.push(Action::Quiet);
                }
                actions
            }
            // One that was silent before has had its time; others may have much to send.
            Stage::Stopping if self.is_quiet && self.quiet_for(now) >= GIVE_UP => {
                let why = self.silence(now);
                self.lose(why, now)
            }
            Stage::Stopping if now.duration_since(self.since) >= GOODBYE => {
                self.lose(format!("it did not end within {} s", GOODBYE.as_secs()), now)
            }
            Stage::Stopping | Stage::Ended | Stage::Lost => Vec::new(),
        }
    }

    /// The tracer itself stood still until now: what agents said meanwhile is yet to be read.
    pub(super) fn pardon(&mut self, now: Instant) {
        self.heard_at = now;
        self.asked_at = self.asked_at.map(|_| now);
    }

    /// How long it has said nothing, or has not answered.
    pub(super) fn quiet_for(&self, now: Instant) -> Duration {
        let unanswered = self.asked_at.map_or(Duration::ZERO, |at| now.duration_since(at));
        now.duration_since(self.heard_at).max(unanswered)
    }

    /// In words, how it is silent.
    pub(super) fn silence(&self, now: Instant) -> String {
        let quiet = self.quiet_for(now);
        let what = if now.duration_since(self.heard_at) >= quiet { "said" } else { "answered" };
        format!("it has {what} nothing for {} s", quiet.as_secs())
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
    fn traced(now: Instant) -> Life {
        let mut life = Life::begin(now);
        assert_eq!(life.connected(now), [Action::Configure]);
        assert_eq!(life.frame(&hello(PROTOCOL_VERSION), now), []);
        assert_eq!(life.frame(&FromAgent::Attached(Attached::default()), now), []);
        assert_eq!(life.compare_clocks(now), [Action::AskClock]);
        for _ in 1..CLOCK_ROUNDS {
            assert_eq!(life.frame(&CLOCK, now), [Action::AskClock]);
        }
        assert_eq!(life.frame(&CLOCK, now), []);
        assert_eq!(life.stage(), Stage::Compared);
        assert_eq!(life.start(now), [Action::Start]);
        assert_eq!(life.frame(&FromAgent::Started, now), [Action::Traced]);
        life
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
        let mut life = traced(now);
        assert_eq!(life.stop(now), [Action::Stop]);
        assert_eq!(life.frame(&FromAgent::Goodbye { counters: ACCOUNTING }, now), []);
        assert_eq!(life.closed(None, now), []);
        assert_eq!(life.stage(), Stage::Ended);
    }

    #[test]
    fn nothing_happens_before_its_turn() {
        let now = Instant::now();
        let mut life = Life::begin(now);
        assert_eq!(life.compare_clocks(now), []);
        assert_eq!(life.start(now), []);
        life.connected(now);
        assert_eq!(life.connected(now), []);
        assert_eq!(life.frame(&FromAgent::Started, now), []);
        assert_eq!(life.stage(), Stage::Configured);
        // A trace that ends now has no use for it.
        assert_eq!(life.stop(now), []);
        assert_eq!(life.stage(), Stage::Ended);
    }

    #[test]
    fn another_version_of_the_protocol_is_refused() {
        let now = Instant::now();
        let mut life = Life::begin(now);
        life.connected(now);
        let actions = life.frame(&hello(PROTOCOL_VERSION + 1), now);
        assert!(lost(&actions).contains("install the same version"));
    }

    #[test]
    fn a_set_up_has_limits() {
        let now = Instant::now();
        let mut life = Life::begin(now);
        life.connected(now);
        assert_eq!(life.tick(now + REACH - seconds(1), true), []);
        assert!(lost(&life.tick(now + REACH, true)).contains("20 s"));

        let mut life = Life::begin(now);
        life.connected(now);
        life.frame(&hello(PROTOCOL_VERSION), now);
        assert_eq!(life.tick(now + REACH, true), []);
        assert!(lost(&life.tick(now + SETUP, true)).contains("120 s"));

        // It waits for others, which have limits of their own.
        let mut life = Life::begin(now);
        life.connected(now);
        life.frame(&FromAgent::Attached(Attached::default()), now);
        assert_eq!(life.tick(now + SETUP * 3, true), []);
    }

    #[test]
    fn an_end_during_the_set_up_is_a_loss() {
        let now = Instant::now();
        let mut life = Life::begin(now);
        assert_eq!(lost(&life.closed(Some("no such command".to_owned()), now)), "no such command");
        let mut life = Life::begin(now);
        life.connected(now);
        assert!(lost(&life.closed(None, now)).contains("before it was ready"));
        assert_eq!(life.closed(None, now), []);
    }

    #[test]
    fn silence_is_reported_once_and_then_ends_it() {
        let now = Instant::now();
        let mut life = traced(now);
        life.frame(&CLOCK, now);
        assert_eq!(life.tick(now + seconds(1), true), [Action::AskClock]);
        assert_eq!(life.tick(now + QUIET, true), [Action::AskClock, Action::Quiet]);
        assert_eq!(life.tick(now + seconds(3), true), [Action::AskClock]);
        assert!(lost(&life.tick(now + GIVE_UP, true)).contains("said nothing for 10 s"));
        assert_eq!(life.tick(now + GIVE_UP, true), []);
    }

    #[test]
    fn an_agent_that_speaks_again_is_kept() {
        let now = Instant::now();
        let mut life = traced(now);
        life.tick(now + QUIET, true);
        let later = now + seconds(9);
        // Its heartbeat alone is no proof that it reads.
        assert_eq!(life.frame(&HEARTBEAT, later), []);
        assert_eq!(life.frame(&CLOCK, later), [Action::SpeaksAgain]);
        assert_eq!(life.tick(later + seconds(1), true), [Action::AskClock]);
    }

    #[test]
    fn an_agent_that_reads_nothing_is_given_up() {
        let now = Instant::now();
        let mut life = traced(now);
        let mut actions = Vec::new();
        for second in 0..=10 {
            let now = now + seconds(second);
            assert_eq!(life.frame(&HEARTBEAT, now), []);
            actions = life.tick(now, true);
        }
        assert!(lost(&actions).contains("answered nothing for 10 s"));
    }

    #[test]
    fn where_all_are_silent_nobody_is_given_up_soon() {
        let now = Instant::now();
        let mut life = traced(now);
        life.tick(now, false);
        assert_eq!(life.tick(now + GIVE_UP * 2, false), [Action::AskClock, Action::Quiet]);
        lost(&life.tick(now + GIVE_UP_ALL, false));
    }

    #[test]
    fn a_tracer_that_stood_still_blames_nobody() {
        let now = Instant::now();
        let mut life = traced(now);
        life.tick(now, true);
        let later = now + GIVE_UP * 10;
        life.pardon(later);
        assert_eq!(life.tick(later, true), [Action::AskClock]);
    }

    #[test]
    fn a_goodbye_is_not_waited_for_without_end() {
        let now = Instant::now();
        let mut life = traced(now);
        life.frame(&CLOCK, now);
        life.stop(now);
        // It drains.
        assert_eq!(life.tick(now + GIVE_UP, true), []);
        lost(&life.tick(now + GOODBYE, true));

        let mut life = traced(now);
        life.tick(now + QUIET, true);
        life.stop(now + QUIET);
        lost(&life.tick(now + GIVE_UP, true));
    }
}
