//! The agents of a trace: started, configured, listened to and ended together.

use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, bail};
use bytes::BytesMut;
use futures_util::future::join_all;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Plan;
use crate::agent::clock;
use crate::agent::transport::{AgentPods, Connection, Process, connect};
use podtrace_protocol::codec::{RawFrame, write_raw};
use podtrace_protocol::frame::{Attached, FromAgent, MAX_FRAME, PROTOCOL_VERSION, ToAgent};
use podtrace_protocol::inventory::Node;
use podtrace_protocol::topology::Topology;

/// How long a node may take to say its first word.
const REACH_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a node that was reached may take for each answer while a trace is set up: the kernel's verifier has much
/// to do, and may have little of a CPU to do it with.
pub(super) const SETUP_TIMEOUT: Duration = Duration::from_secs(120);

/// How long an agent may take to end once it was asked to.
const END_TIMEOUT: Duration = Duration::from_secs(3);

/// Frames that wait for the engine at most; then agents wait, their rings fill, and they count what is lost.
const QUEUE: usize = 256;

/// A frame, or why no more come: `Ok(None)` is an orderly end.
pub(super) type Heard = (usize, Result<Option<FromAgent>, String>);

/// One agent.
struct Agent {
    name: String,
    process: Process,
    input: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Whether it has said anything.
    reached: bool,
}

/// The agents of a trace.
pub(super) struct Nodes {
    agents: Vec<Agent>,
    heard: mpsc::Receiver<Heard>,
    /// For those that join.
    sender: mpsc::Sender<Heard>,
}

impl Nodes {
    /// Starts the agents of a plan's nodes.
    pub(super) async fn connect(plan: &Plan) -> Result<Self> {
        Self::of(plan.asked(), plan.pods.as_deref()).await
    }

    /// Starts the agents of these nodes, in these pods where there is no other way.
    pub(super) async fn of<'a>(
        nodes: impl Iterator<Item = &'a Node>,
        pods: Option<&AgentPods>,
    ) -> Result<Self> {
        let (sender, heard) = mpsc::channel(QUEUE);
        let mut all = Self { agents: Vec::new(), heard, sender };
        let connected = join_all(nodes.map(async |node| (node, connect(node, pods).await))).await;
        for (node, connection) in connected {
            all.add(&node.name, connection?);
        }
        Ok(all)
    }

    /// Listens to one more agent. Returns its number.
    pub(super) fn add(&mut self, name: &str, connection: Connection) -> usize {
        let Connection { process, input, output } = connection;
        let number = self.agents.len();
        self.agents.push(Agent { name: name.to_owned(), process, input: Some(input), reached: false });
        tokio::spawn(listen(number, output, self.sender.clone()));
        number
    }

    /// Names in the order of their numbers.
    pub(super) fn names(&self) -> Vec<String> {
        self.agents.iter().map(|agent| agent.name.clone()).collect()
    }

    /// Tells every agent what to trace and waits until all are attached. Every frame heard on the way goes to
    /// `each`.
    pub(super) async fn configure(
        &mut self,
        plan: &Plan,
        mut each: impl FnMut(usize, &FromAgent) -> Result<()>,
    ) -> Result<Vec<Attached>> {
        let configurations: Vec<_> = plan.asked().map(|node| plan.configuration(node)).collect();
        for (number, configuration) in configurations.iter().enumerate() {
            // A dead agent says why on its own stream, or ends it: that is heard below.
            self.send(number, &ToAgent::Configure(configuration.clone())).await;
        }
        let mut attached: Vec<Option<Attached>> = vec![None; configurations.len()];
        let names = self.names();
        self.wait_for_all(|number, frame| {
            if let FromAgent::Topology(topology) = frame {
                check_pods(&names[number], topology, &configurations[number].tapped)?;
            }
            each(number, frame)?;
            let FromAgent::Attached(state) = frame else { return Ok(false) };
            attached[number] = Some(state.clone());
            Ok(true)
        })
        .await?;
        Ok(attached.into_iter().flatten().collect())
    }

    /// Lets every agent emit events and waits until all do. `via` are addresses of nodes. Every frame heard on the way
    /// goes to `each`.
    pub(super) async fn start(
        &mut self,
        via: Vec<IpAddr>,
        mut each: impl FnMut(usize, &FromAgent) -> Result<()>,
    ) -> Result<()> {
        self.send_all(&ToAgent::Start { via }).await;
        self.wait_for_all(|number, frame| {
            each(number, frame)?;
            Ok(matches!(frame, FromAgent::Started))
        })
        .await
    }

    /// Asks every agent for its clock and waits for all answers: nothing else is under way then, which keeps the
    /// bounds close. Every frame heard on the way goes to `each`.
    pub(super) async fn compare_clocks(
        &mut self,
        mut each: impl FnMut(usize, &FromAgent) -> Result<()>,
    ) -> Result<()> {
        self.ask_clocks().await;
        self.wait_for_all(|number, frame| {
            each(number, frame)?;
            Ok(matches!(frame, FromAgent::Clock { .. }))
        })
        .await
    }

    /// Listens until `answers` was true for a frame of every agent.
    pub(super) async fn wait_for_all(
        &mut self,
        mut answers: impl FnMut(usize, &FromAgent) -> Result<bool>,
    ) -> Result<()> {
        let mut answered = vec![false; self.agents.len()];
        while !answered.iter().all(|answered| *answered) {
            let waiting = || {
                let names = answered.iter().zip(&self.agents).filter(|(answered, _)| !**answered);
                names.map(|(_, agent)| agent.name.as_str()).collect::<Vec<_>>().join(", ")
            };
            let reached =
                answered.iter().zip(&self.agents).all(|(answered, agent)| *answered || agent.reached);
            let limit = if reached { SETUP_TIMEOUT } else { REACH_TIMEOUT };
            let Ok(heard) = timeout(limit, self.heard.recv()).await else {
                bail!("no answer from {} within {} s", waiting(), limit.as_secs());
            };
            let Some((number, frame)) = heard else { bail!("the agents on {} exited", waiting()) };
            self.agents[number].reached = true;
            let name = &self.agents[number].name;
            let frame = match frame {
                Ok(Some(frame)) => frame,
                Ok(None) => bail!("the agent on {name} exited before it was ready; see its messages above"),
                Err(error) => bail!("the agent on {name}: {error}"),
            };
            match &frame {
                FromAgent::Hello(hello) if hello.protocol != PROTOCOL_VERSION => bail!(
                    "protocol mismatch: podtrace {} on {name} speaks version {}, this one version \
                     {PROTOCOL_VERSION}: install the same version there",
                    hello.version,
                    hello.protocol
                ),
                FromAgent::Failed { error } => bail!("{name}: {error}"),
                _ => {}
            }
            answered[number] |= answers(number, &frame)?;
        }
        Ok(())
    }

    /// Sends a frame to one agent. A failure shows as the end of that agent's stream.
    pub(super) async fn send(&mut self, number: usize, frame: &ToAgent) {
        let mut bytes = Vec::new();
        if write_raw(&mut bytes, &frame.to_raw()).is_err() {
            return;
        }
        if let Some(input) = &mut self.agents[number].input {
            let sent = match input.write_all(&bytes).await {
                Ok(()) => input.flush().await,
                Err(error) => Err(error),
            };
            if sent.is_err() {
                self.agents[number].input = None;
            }
        }
    }

    /// Sends a frame to all agents.
    pub(super) async fn send_all(&mut self, frame: &ToAgent) {
        for number in 0..self.agents.len() {
            self.send(number, frame).await;
        }
    }

    /// Asks every agent for its clock.
    pub(super) async fn ask_clocks(&mut self) {
        for number in 0..self.agents.len() {
            self.ask_clock(number).await;
        }
    }

    /// Asks one agent for its clock.
    pub(super) async fn ask_clock(&mut self, number: usize) {
        self.send(number, &ToAgent::Clock { sent_ns: clock::monotonic_ns() }).await;
    }

    /// What comes next.
    pub(super) async fn next(&mut self) -> Option<Heard> {
        self.heard.recv().await
    }

    /// Closes all inputs and waits for the processes, ending those that do not by themselves.
    pub(super) async fn end(mut self) {
        for agent in &mut self.agents {
            agent.process.expect_end();
            if let Some(mut input) = agent.input.take() {
                // An agent that is gone needs no end of input.
                let _ = input.shutdown().await;
            }
        }
        drop(self.heard);
        for mut agent in self.agents {
            if timeout(END_TIMEOUT, agent.process.wait()).await.is_err() {
                agent.process.kill().await;
            }
        }
    }
}

/// A pod to be traced whose veth is not there would be silence that looks like an answer.
fn check_pods(node: &str, topology: &Topology, tapped: &[String]) -> Result<()> {
    let missing: Vec<_> =
        tapped.iter().filter(|pod| topology.host_veth_of(pod).is_none()).map(String::as_str).collect();
    if !missing.is_empty() {
        bail!(
            "no network namespace on {node} has the address of {}: is the inventory outdated, or the pod gone?",
            missing.join(", ")
        );
    }
    Ok(())
}

/// Reads one agent's frames until its stream ends.
async fn listen(number: usize, mut from: Box<dyn AsyncRead + Send + Unpin>, to: mpsc::Sender<Heard>) {
    let mut buffer = BytesMut::with_capacity(1 << 16);
    loop {
        let heard = match read_frame(&mut from, &mut buffer).await {
            Ok(Some(raw)) => match FromAgent::from_raw(raw) {
                Ok(FromAgent::Clock { sent_ns, node_ns, received_ns: _ }) => {
                    Ok(Some(FromAgent::Clock { sent_ns, node_ns, received_ns: clock::monotonic_ns() }))
                }
                Ok(frame) => Ok(Some(frame)),
                Err(error) => Err(error.to_string()),
            },
            Ok(None) => Ok(None),
            Err(error) => Err(error.to_string()),
        };
        let last = !matches!(heard, Ok(Some(_)));
        if to.send((number, heard)).await.is_err() || last {
            return;
        }
    }
}

async fn read_frame(
    from: &mut (dyn AsyncRead + Send + Unpin),
    buffer: &mut BytesMut,
) -> io::Result<Option<RawFrame>> {
    loop {
        if let Some(head) = buffer.first_chunk::<4>() {
            let len = u32::from_le_bytes(*head);
            if len == 0 || len > MAX_FRAME {
                let text = String::from_utf8_lossy(&buffer[..buffer.len().min(60)]).into_owned();
                let message = format!("protocol error: expected a podtrace agent, got {text:?}");
                return Err(io::Error::new(ErrorKind::InvalidData, message));
            }
            let end = 4 + len as usize;
            if buffer.len() >= end {
                let frame = buffer.split_to(end).freeze();
                return Ok(Some(RawFrame { kind: frame[4], body: frame.slice(5..) }));
            }
            buffer.reserve(end - buffer.len());
        }
        if from.read_buf(buffer).await? == 0 {
            return if buffer.is_empty() {
                Ok(None)
            } else {
                Err(io::Error::new(ErrorKind::UnexpectedEof, "the stream ended in the middle of a frame"))
            };
        }
    }
}
