//! The lifecycle of one agent, as a pure state machine. Input: frames, the end of the connection, and the time. Output:
//! actions.
//!
//! ```text
//! Connecting ─ Attaching ─ Attached ─ SyncingClock ─ ClockSynced ─ Starting ─ Tracing ─ Stopping ─ Ended
//!      └───────────┴───────────┴────────────┴─────────────┴────────────┴─────────┴──────────┴─ Lost
//! ```
//!
//! 1. *Connecting*: its process is being started. Once connected, it gets its configuration.
//! 2. *Attaching*: it reads its node's network and attaches its eBPF programs.
//! 3. *Attached*: it waits. Initial agents compare clocks when all are attached: attaching loads the CPUs, which lengthens
//!    round trips and so the error of the clocks.
//! 4. *SyncingClock*: it answers [`CLOCK_SAMPLES`] requests for its clock, one after the other.
//! 5. *ClockSynced*: it waits again. Initial agents start together, so that no path misses its beginning.
//! 6. *Starting*, *Tracing*: its events are part of the trace from its `Started` frame on.
//! 7. *Stopping*: it sends what is left in its ring buffer, then its goodbye.
//! 8. *Ended* after the goodbye that it was asked for, or by a stop before *Tracing*; else *Lost*. A goodbye that nobody
//!    asked for is a loss too: the node is not traced from there on. A lost agent may begin again with *Connecting*.
//!
//! When an agent may leave steps 3 and 5 is decided in [`agents`](super::agents).
//!
//! An agent that traces sends a heartbeat every 30 ms. One that sends nothing for [`SILENCE_WARNING`] is reported as
//! silent; after [`SILENCE_TIMEOUT`] it is given up. If no agent sends anything, [`SILENCE_TIMEOUT_ALL`] applies: then the
//! common connection stalls, such as an API server that restarts. An agent that sends frames but does not answer
//! requests for its clock reads nothing, and counts as silent too.
//!
//! The session calls [`Lifecycle::tick`] every 250 ms. If more than a second passed since the last tick, this process was
//! suspended or blocked ("stalled"), and its agents' frames of that time are not read yet: [`Lifecycle::reset_timers`]
//! then comes first, so that no agent is blamed. `Stage`'s derived order is the order above, and callers rely on it.

use std::time::Duration;

use podtrace_protocol::frame::{FromAgent, PROTOCOL_VERSION};
use tokio::time::Instant;

/// Requests for an agent's clock before it starts; the one with the shortest round trip counts.
const CLOCK_SAMPLES: u32 = 8;

/// Time limit for an agent's first frame after its start.
const FIRST_FRAME_TIMEOUT: Duration = Duration::from_secs(20);

/// Time limit for each step of the set-up. Verifying the programs takes long on a busy node.
pub(super) const SETUP_TIMEOUT: Duration = Duration::from_secs(120);

/// Silence of an agent that traces after which the user is warned.
pub(super) const SILENCE_WARNING: Duration = Duration::from_secs(2);

/// What the user reads of a silence is no more exact than this.
const SILENCE_RESOLUTION: Duration = Duration::from_secs(1);

/// Silence after which an agent is given up while others are active. A single agent has [`SILENCE_TIMEOUT_ALL`].
pub(super) const SILENCE_TIMEOUT: Duration = Duration::from_secs(10);

/// Silence after which an agent is given up if no other agent is active.
pub(super) const SILENCE_TIMEOUT_ALL: Duration = Duration::from_secs(60);

/// Time limit for the goodbye after a stop, from the last frame on: an agent that still sends what it has is not given up.
const GOODBYE_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Time limit for the goodbye after a stop, whatever the agent sends.
const GOODBYE_TOTAL_TIMEOUT: Duration = Duration::from_secs(300);

/// State of the machine, in the order in which an agent passes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Connecting,
    Attaching,
    Attached,
    SyncingClock,
    ClockSynced,
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
    BeginDelivery,
    /// Warn: it has been silent for [`SILENCE_WARNING`].
    WarnSilent,
    /// Report that it is no longer silent.
    ReportRecovered,
    /// End its process: it is lost, for this reason.
    Lost(String),
}

/// The lifecycle of one agent.
#[derive(Debug)]
pub(super) struct Lifecycle {
    stage: Stage,
    /// When this stage began; before *Attached*, when the last frame came. Later if this process stalled.
    deadline_base: Instant,
    last_frame_at: Instant,
    /// When the first request for its clock since its last answer was sent; `None` if none is pending.
    clock_request_pending_since: Option<Instant>,
    /// Whether any frame came.
    has_sent_frame: bool,
    clock_answers: u32,
    is_silent: bool,
}

impl Lifecycle {
    pub(super) fn begin(now: Instant) -> Self {
        Self {
            stage: Stage::Connecting,
            deadline_base: now,
            last_frame_at: now,
            clock_request_pending_since: None,
            has_sent_frame: false,
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
        self.enter(Stage::Attaching, now);
        vec![Action::Configure]
    }

    /// A frame came.
    pub(super) fn handle_frame(&mut self, frame: &FromAgent, now: Instant) -> Vec<Action> {
        if self.stage.is_over() {
            return Vec::new();
        }
        self.last_frame_at = now;
        self.has_sent_frame = true;
        if self.stage < Stage::Attached {
            self.deadline_base = now;
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
            (FromAgent::Attached(_), Stage::Attaching) => self.enter(Stage::Attached, now),
            (FromAgent::Clock { .. }, stage) => {
                self.clock_request_pending_since = None;
                if stage == Stage::SyncingClock {
                    self.clock_answers += 1;
                    if self.clock_answers < CLOCK_SAMPLES {
                        actions.extend(self.ask_clock(now));
                    } else {
                        self.enter(Stage::ClockSynced, now);
                    }
                }
            }
            (FromAgent::Started, Stage::Starting) => {
                self.enter(Stage::Tracing, now);
                actions.push(Action::BeginDelivery);
            }
            (FromAgent::Goodbye { .. }, Stage::Stopping) => self.enter(Stage::Ended, now),
            (FromAgent::Goodbye { .. }, _) => {
                let why = "its agent ended without being asked to, as by SIGTERM on its node";
                return self.lose(why.to_owned(), now);
            }
            _ => {}
        }
        if self.is_silent
            && self.clock_request_pending_since.is_none_or(|at| now.duration_since(at) < SILENCE_WARNING)
        {
            self.is_silent = false;
            actions.push(Action::ReportRecovered);
        }
        actions
    }

    /// The connection ended, with or without an error, or could not be made.
    pub(super) fn handle_close(&mut self, error: Option<String>, now: Instant) -> Vec<Action> {
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
        self.enter(Stage::SyncingClock, now);
        self.ask_clock(now)
    }

    /// All agents that it waits for have compared clocks.
    pub(super) fn start(&mut self, now: Instant) -> Vec<Action> {
        if self.stage != Stage::ClockSynced {
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
            Stage::Connecting => self.lose_if_older_than(SETUP_TIMEOUT, now),
            Stage::Attaching if !self.has_sent_frame => self.lose_if_older_than(FIRST_FRAME_TIMEOUT, now),
            // No limit: it waits for other agents, which have their own.
            Stage::Attached | Stage::ClockSynced => Vec::new(),
            Stage::Attaching | Stage::SyncingClock | Stage::Starting => {
                self.lose_if_older_than(SETUP_TIMEOUT, now)
            }
            Stage::Tracing => {
                let timeout = if others_active { SILENCE_TIMEOUT } else { SILENCE_TIMEOUT_ALL };
                let silent = self.silent_for(now);
                if silent >= timeout {
                    let why = self.silence_message(now);
                    return self.lose(why, now);
                }
                let mut actions = self.ask_clock(now);
                if silent >= SILENCE_WARNING && !self.is_silent {
                    self.is_silent = true;
                    actions.push(Action::WarnSilent);
                }
                actions
            }
            // After a stop, an agent that was already silent gets SILENCE_TIMEOUT, also where SILENCE_TIMEOUT_ALL applied
            // before.
            Stage::Stopping if self.is_silent && self.silent_for(now) >= SILENCE_TIMEOUT => {
                let why = self.silence_message(now);
                self.lose(why, now)
            }
            Stage::Stopping
                if now.duration_since(self.deadline_base.max(self.last_frame_at)) >= GOODBYE_IDLE_TIMEOUT
                    || now.duration_since(self.deadline_base) >= GOODBYE_TOTAL_TIMEOUT =>
            {
                self.lose(
                    format!("it did not end within {} s", now.duration_since(self.deadline_base).as_secs()),
                    now,
                )
            }
            Stage::Stopping | Stage::Ended | Stage::Lost => Vec::new(),
        }
    }

    /// Starts all time limits anew: this process itself stalled, and the frames of that time are not read yet.
    pub(super) fn reset_timers(&mut self, now: Instant) {
        self.deadline_base = now;
        self.last_frame_at = now;
        self.clock_request_pending_since = self.clock_request_pending_since.map(|_| now);
    }

    /// How long it has sent or answered nothing.
    pub(super) fn silent_for(&self, now: Instant) -> Duration {
        let unanswered = self.clock_request_pending_since.map_or(Duration::ZERO, |at| now.duration_since(at));
        now.duration_since(self.last_frame_at).max(unanswered)
    }

    /// The silence as a sentence.
    pub(super) fn silence_message(&self, now: Instant) -> String {
        let silent = self.silent_for(now);
        // A request may have been under way when the agent fell silent: then it says nothing, which is more.
        let is_silent = silent.saturating_sub(now.duration_since(self.last_frame_at)) < SILENCE_RESOLUTION;
        let what = if is_silent { "said" } else { "answered" };
        format!("it has {what} nothing for {} s", silent.as_secs())
    }

    fn lose_if_older_than(&mut self, timeout: Duration, now: Instant) -> Vec<Action> {
        if now.duration_since(self.deadline_base) < timeout {
            return Vec::new();
        }
        self.lose(format!("no answer from its agent within {} s", timeout.as_secs()), now)
    }

    fn ask_clock(&mut self, now: Instant) -> Vec<Action> {
        self.clock_request_pending_since.get_or_insert(now);
        vec![Action::AskClock]
    }

    fn lose(&mut self, why: String, now: Instant) -> Vec<Action> {
        self.enter(Stage::Lost, now);
        vec![Action::Lost(why)]
    }

    fn enter(&mut self, stage: Stage, now: Instant) {
        self.stage = stage;
        self.deadline_base = now;
    }
}

#[cfg(test)]
mod tests;
