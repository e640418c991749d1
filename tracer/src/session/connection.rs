//! The connection to one agent: its process, a task that reads its frames, and one that writes to it.
//!
//! Sending never waits for an agent that does not read: frames go into a bounded queue, and the caller learns when it is
//! full.

use std::io::{self, ErrorKind};
use std::time::Duration;

use bytes::BytesMut;
use podtrace_protocol::codec::{RawFrame, write_raw};
use podtrace_protocol::frame::{FromAgent, MAX_FRAME, ToAgent};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::trace;

use crate::agent::clock;
use crate::agent::transport::{Connection, Process};

/// How long an agent may take to end once its input has ended.
const END: Duration = Duration::from_secs(3);

/// The same if the user does not want to wait.
const END_AT_ONCE: Duration = Duration::from_millis(300);

/// Maximum number of frames that wait to be written to one agent.
const OUTGOING: usize = 64;

/// Maximum number of frames of all agents that wait for the engine. When it is reached, agents block, their ring buffers
/// fill up, and they count the events that are lost.
pub(super) const INCOMING: usize = 256;

/// Number of a connection. An agent that is started again gets another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ConnectionId(pub(super) u64);

/// A frame of a connection, `None` at the end of its stream, or why no more can be read.
pub(super) type Received = (ConnectionId, Result<Option<FromAgent>, String>);

/// The connection to one agent. Dropping it ends the agent.
pub(super) struct AgentConnection {
    process: Process,
    outgoing: mpsc::Sender<ToAgent>,
}

impl AgentConnection {
    /// Spawns the tasks. Frames that are read go to `incoming`.
    pub(super) fn begin(id: ConnectionId, connection: Connection, incoming: mpsc::Sender<Received>) -> Self {
        let Connection { process, input, output } = connection;
        let (outgoing, frames) = mpsc::channel(OUTGOING);
        tokio::spawn(read(id, output, incoming));
        tokio::spawn(write(input, frames));
        Self { process, outgoing }
    }

    /// Sends a frame. `false` if the queue is full: the agent does not read. An agent that is gone shows as the end of its
    /// stream.
    pub(super) fn send(&self, frame: ToAgent) -> bool {
        !matches!(self.outgoing.try_send(frame), Err(mpsc::error::TrySendError::Full(_)))
    }

    /// Asks for the agent's clock, if no other frames wait: a late answer has a large error.
    pub(super) fn ask_clock(&self) {
        // The writer fills in the time. A full queue shows by the missing answer.
        let _ = self.outgoing.try_send(ToAgent::Clock { sent_ns: 0 });
    }

    /// Closes the agent's stdin and waits for its process, which is killed if it does not end in time.
    pub(super) async fn end(self, at_once: bool) {
        let Self { mut process, outgoing } = self;
        process.expect_end();
        drop(outgoing);
        let limit = if at_once { END_AT_ONCE } else { END };
        if timeout(limit, process.wait()).await.is_err() {
            process.kill().await;
        }
    }
}

/// Writes frames until the connection is dropped, then closes the agent's stdin.
async fn write(mut input: Box<dyn AsyncWrite + Send + Unpin>, mut frames: mpsc::Receiver<ToAgent>) {
    while let Some(frame) = frames.recv().await {
        let frame = match frame {
            ToAgent::Clock { .. } => ToAgent::Clock { sent_ns: clock::monotonic_ns() },
            frame => frame,
        };
        let mut bytes = Vec::new();
        if write_raw(&mut bytes, &frame.to_raw()).is_err() {
            continue;
        }
        let sent = match input.write_all(&bytes).await {
            Ok(()) => input.flush().await,
            Err(error) => Err(error),
        };
        if sent.is_err() {
            // The reader reports the end of the connection.
            return;
        }
    }
    // Fails if the agent is gone.
    let _ = input.shutdown().await;
}

/// Reads one agent's frames until its stream ends.
async fn read(id: ConnectionId, mut from: Box<dyn AsyncRead + Send + Unpin>, to: mpsc::Sender<Received>) {
    let mut buffer = BytesMut::with_capacity(1 << 16);
    loop {
        let received = match read_frame(&mut from, &mut buffer).await {
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
        let is_last = !matches!(received, Ok(Some(_)));
        if to.send((id, received)).await.is_err() || is_last {
            trace!("nothing more is read of connection {}", id.0);
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
