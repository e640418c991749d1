//! What follows from an agent's frames, its end and its lifecycle's actions: frames to it, and notifications for the
//! session.

use podtrace_protocol::frame::{FromAgent, ToAgent};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::super::configured::check_pods;
use super::super::lifecycle::{Action, Stage};
use super::{AgentId, Agents, Notification, RETRY_FIRST, RETRY_MAX, STABLE_AFTER};

impl Agents {
    pub(super) fn handle_frame(
        &mut self,
        id: AgentId,
        frame: FromAgent,
        now: Instant,
        notifications: &mut Vec<Notification>,
    ) {
        let (has_begun, agent) = (self.has_begun, &mut self.agents[id.0]);
        let before = agent.lifecycle.stage();
        if before.is_over() {
            return;
        }
        let mut actions = agent.lifecycle.handle_frame(&frame, now);
        if let FromAgent::Topology(topology) = &frame {
            self.node_addresses.extend(topology.own_addresses());
            if !has_begun && let Err(error) = check_pods(&agent.node.name, topology, &agent.configuration) {
                actions = agent.lifecycle.handle_close(Some(error), now);
            }
        }
        if agent.lifecycle.stage() == Stage::Lost {
            // Also its goodbye if nobody asked for it: what it did not see must not look complete to the engine.
            self.execute(id, actions, now, notifications);
            return;
        }
        let is_goodbye = matches!(frame, FromAgent::Goodbye { .. });
        match agent.node_number {
            Some(node) if before >= Stage::Tracing => {
                notifications.push(Notification::Frame { agent: id, node, frame });
            }
            Some(node) => notifications.push(Notification::SetUp { agent: id, node: Some(node), frame }),
            None => {
                agent.held_frames.push(frame.clone());
                notifications.push(Notification::SetUp { agent: id, node: None, frame });
            }
        }
        if is_goodbye && let Some(node) = agent.node_number.take() {
            notifications.push(Notification::Left { agent: id, node, why: None });
        }
        self.execute(id, actions, now, notifications);
    }

    pub(super) fn handle_close(
        &mut self,
        id: AgentId,
        error: Option<String>,
        now: Instant,
        notifications: &mut Vec<Notification>,
    ) {
        let actions = self.agents[id.0].lifecycle.handle_close(error, now);
        self.execute(id, actions, now, notifications);
    }

    /// Executes the actions that its lifecycle asks of one agent.
    pub(super) fn execute(
        &mut self,
        id: AgentId,
        actions: Vec<Action>,
        now: Instant,
        notifications: &mut Vec<Notification>,
    ) {
        for action in actions {
            let agent = &mut self.agents[id.0];
            let name = &agent.node.name;
            debug!("{name}: {action:?}");
            match action {
                Action::Configure => {
                    let configure = ToAgent::Configure(agent.configuration.clone());
                    self.send_to(id, configure, now, notifications);
                }
                Action::AskClock => {
                    if let Some((_, connection)) = &agent.connection {
                        connection.ask_clock();
                    }
                }
                Action::Start => self.start(id, now, notifications),
                Action::Stop => self.send_to(id, ToAgent::Stop, now, notifications),
                Action::BeginDelivery => {
                    if agent.has_traced {
                        info!("{name}: traced again");
                    }
                    agent.has_traced = true;
                    agent.tracing_since = Some(now);
                    if agent.node_number.is_none() {
                        let frames = std::mem::take(&mut agent.held_frames);
                        notifications.push(Notification::Joined { agent: id, frames });
                    }
                }
                Action::WarnSilent => {
                    let silence = agent.lifecycle.silence_message(now);
                    warn!("{name}: {silence}; paths that may pass there wait for it");
                }
                Action::ReportRecovered => info!("{name}: it speaks again"),
                Action::Lost(why) => self.handle_loss(id, why, now, notifications),
            }
        }
    }

    /// Lets an agent emit events. Agents that already trace get the same Start again: it carries the new node's addresses
    /// for their NAT filter.
    fn start(&mut self, id: AgentId, now: Instant, notifications: &mut Vec<Notification>) {
        let start = ToAgent::Start { nat_addresses: self.node_addresses.iter().copied().collect() };
        self.send_to(id, start.clone(), now, notifications);
        if !self.has_begun {
            return;
        }
        for index in (0..self.agents.len()).filter(|index| *index != id.0) {
            if self.agents[index].lifecycle.stage() == Stage::Tracing {
                self.send_to(AgentId(index), start.clone(), now, notifications);
            }
        }
    }

    pub(super) fn send_to(
        &mut self,
        id: AgentId,
        frame: ToAgent,
        now: Instant,
        notifications: &mut Vec<Notification>,
    ) {
        let Some((_, connection)) = &self.agents[id.0].connection else { return };
        if !connection.send(frame) {
            self.handle_close(id, Some("it does not read what it is sent".to_owned()), now, notifications);
        }
    }

    fn handle_loss(&mut self, id: AgentId, why: String, now: Instant, notifications: &mut Vec<Notification>) {
        let agent = &mut self.agents[id.0];
        agent.held_frames.clear();
        if let Some(task) = agent.attempt_task.take() {
            task.abort();
        }
        if let Some((_, connection)) = agent.connection.take() {
            self.terminating.spawn(connection.end(true));
        }
        let node = agent.node_number.take();
        let is_reported = node.is_none() && (agent.has_traced || agent.restarts > 0);
        let began = agent.tracing_since.take();
        if began.is_some_and(|began| now.duration_since(began) >= STABLE_AFTER) {
            agent.restarts = 0;
        }
        if self.has_begun && !self.is_stopping {
            let delay = RETRY_FIRST.saturating_mul(1 << agent.restarts.min(8)).min(RETRY_MAX);
            agent.restarts += 1;
            agent.restart_at = Some(now + delay);
        }
        match node {
            Some(node) => notifications.push(Notification::Left { agent: id, node, why: Some(why) }),
            None if is_reported => debug!("{}: not reached again: {why}", agent.node.name),
            None => notifications.push(Notification::Failed { agent: id, why }),
        }
    }

    /// Releases the two barriers: initial agents wait for the slowest one; agents added later do not wait.
    pub(super) fn release_barriers(&mut self, now: Instant, notifications: &mut Vec<Notification>) {
        if self.is_stopping {
            return;
        }
        let stages = self.agents.iter().map(|agent| agent.lifecycle.stage());
        let earliest_stage = stages.min().filter(|_| !self.has_begun);
        for index in 0..self.agents.len() {
            let lifecycle = &mut self.agents[index].lifecycle;
            let actions = match lifecycle.stage() {
                Stage::Attached if earliest_stage.is_none_or(|earliest| earliest >= Stage::Attached) => {
                    lifecycle.compare_clocks(now)
                }
                Stage::ClockSynced
                    if earliest_stage.is_none_or(|earliest| earliest >= Stage::ClockSynced) =>
                {
                    lifecycle.start(now)
                }
                _ => continue,
            };
            self.execute(AgentId(index), actions, now, notifications);
        }
        if earliest_stage == Some(Stage::Tracing) {
            self.has_begun = true;
        }
    }
}
