//! An agent as a command in a pod, its frames carried by the API server.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};
use futures_util::FutureExt as _;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{Api as Objects, AttachParams};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::task::JoinHandle;
use tracing::error;

use super::pods::{AgentPod, AgentPods};
use super::{Connection, Process};
use podtrace_protocol::inventory::Node;

use crate::cluster::kube::{AGENT_COMMAND, Api, ApiError, CONTAINER, Permission};

/// Bytes that may wait on the way to and from the API server.
const BUFFER: usize = 256 << 10;

/// Characters of a line on stderr that are told.
const LINE: usize = 1_000;

/// A command in a pod. Dropping it ends the connection, and so the command's input.
pub struct Session {
    pump: JoinHandle<()>,
    /// Whether its end would be no surprise.
    ending: Arc<AtomicBool>,
}

impl Session {
    /// Its end is asked for: no need to tell that it came.
    pub(super) fn expect_end(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    /// Waits until the command has ended, or the connection has.
    pub(super) async fn wait(&mut self) {
        // A panic in there has been told by then.
        let _ = (&mut self.pump).await;
    }

    /// Ends the connection.
    pub(super) fn abandon(&self) {
        self.pump.abort();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.abandon();
    }
}

/// Starts the agent of a node in a pod there, making one if there is none.
pub(super) async fn connect_in_pod(pods: &AgentPods, node: &Node) -> Result<Connection> {
    let pod = pods.on(&node.name).await?;
    connect(pods.api(), &pod, &node.name).await
}

async fn connect(api: &Api, pod: &AgentPod, node: &str) -> Result<Connection> {
    // What speaks by a websocket comes as a request to get.
    let permission =
        Permission { verb: "get", group: "", resource: "pods/exec", namespace: Some(pod.namespace.clone()) };
    let parameters = AttachParams::default()
        .container(CONTAINER)
        .stdin(true)
        .stdout(true)
        .stderr(true)
        .max_stdin_buf_size(BUFFER)
        .max_stdout_buf_size(BUFFER);
    let objects: Objects<Pod> = Objects::namespaced(api.client.clone(), &pod.namespace);
    let mut attached = objects
        .exec(&pod.name, AGENT_COMMAND, &parameters)
        .await
        .map_err(|error| ApiError::of(&api.server, permission, error))?;
    let streams = (attached.stdin(), attached.stdout(), attached.stderr());
    let (Some(input), Some(output), Some(errors)) = streams else {
        bail!("exec in pod {} opened no stdin and stdout", pod.name);
    };
    let status = attached.take_status();
    let ended = async { status?.await }.boxed().shared();
    let ending = Arc::new(AtomicBool::new(false));
    let expected = Arc::clone(&ending);
    let node = node.to_owned();
    let (near, far) = tokio::io::simplex(BUFFER);
    let (words, spoken) = tokio::io::simplex(BUFFER);
    let pump = tokio::spawn(async move {
        let frames = async {
            let mut far = carry(output, far, ended.clone()).await;
            // Before anybody hears that the stream has ended: what follows from that expects the end.
            if let Some(what) = judge(ended.clone().await)
                && !expected.load(Ordering::Relaxed)
            {
                say(&node, &what);
            }
            close(&mut far).await;
        };
        let errors = async {
            close(&mut carry(errors, spoken, ended.clone()).await).await;
        };
        tokio::join!(frames, errors, tell(words, &node));
        // It ends the connection, through which nothing comes any more.
        drop(attached);
    });
    Ok(Connection {
        process: Process::Exec(Session { pump, ending }),
        input: Box::new(input),
        output: Box::new(near),
    })
}

/// Carries one of the command's streams until the command has ended, and all that it had written; the end of it is the
/// caller's to pass on.
///
/// The end of a connection that breaks is not the end of the stream that it was read by: only that there will be no
/// status tells it.
async fn carry<W: AsyncWrite + Unpin>(
    mut from: impl AsyncRead + Unpin,
    mut to: W,
    ended: impl Future<Output = Option<Status>>,
) -> W {
    let mut ended = std::pin::pin!(ended);
    let mut buffer = vec![0; 64 << 10];
    loop {
        tokio::select! {
            biased;
            read = from.read(&mut buffer) => match read {
                Ok(0) | Err(_) => break,
                // Nobody listens any more.
                Ok(read) => if pass(&mut to, &buffer[..read]).await.is_err() { break },
            },
            _ = &mut ended => {
                // What had arrived before.
                while let Some(Ok(read)) = from.read(&mut buffer).now_or_never() {
                    if read == 0 || pass(&mut to, &buffer[..read]).await.is_err() {
                        break;
                    }
                }
                break;
            }
        }
    }
    to
}

/// Ends a stream. Its reader may have gone first.
async fn close(to: &mut (impl AsyncWrite + Unpin)) {
    let _ = to.shutdown().await;
}

/// What went wrong, by the command's status; none came if the connection broke.
fn judge(status: Option<Status>) -> Option<String> {
    match status {
        None => Some("the connection through the Kubernetes API was lost".to_owned()),
        Some(status) if status.status.as_deref() == Some("Failure") => {
            Some(status.message.unwrap_or_else(|| "the agent failed".to_owned()))
        }
        Some(_) => None,
    }
}

async fn pass(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

/// The agent's own words.
async fn tell(words: impl AsyncRead + Unpin, node: &str) {
    let mut lines = BufReader::new(words).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        say(node, &line);
    }
}

fn say(node: &str, words: &str) {
    let words: String = words.chars().take(LINE).collect();
    error!("{node}: {words}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: &str, message: &str) -> Option<Status> {
        Some(Status {
            status: Some(status.to_owned()),
            message: Some(message.to_owned()),
            ..Status::default()
        })
    }

    /// What is read if the connection has carried some bytes when it ends so.
    async fn carried(end: Option<Status>, closed: bool) -> String {
        let (from, mut command) = tokio::io::simplex(64);
        let (mut read, to) = tokio::io::simplex(4);
        let (over, ended) = tokio::sync::oneshot::channel();
        let writer = async {
            command.write_all(b"all that was said").await.unwrap();
            if closed {
                command.shutdown().await.unwrap();
            }
            over.send(end).unwrap();
            // It stays open, as a connection that broke does.
            std::future::pending::<()>().await;
        };
        let reader = async {
            let mut text = String::new();
            read.read_to_string(&mut text).await.unwrap();
            text
        };
        let carried = async { close(&mut carry(from, to, async { ended.await.unwrap() }).await).await };
        tokio::select! {
            ((), text) = async { tokio::join!(carried, reader) } => text,
            () = writer => unreachable!("it never ends"),
        }
    }

    #[tokio::test]
    async fn what_was_written_is_read_whatever_ends_it() {
        for closed in [true, false] {
            for end in [status("Success", ""), status("Failure", "exit code 126"), None] {
                assert_eq!(carried(end, closed).await, "all that was said");
            }
        }
    }

    #[test]
    fn the_status_tells_what_went_wrong() {
        assert_eq!(judge(status("Success", "")), None);
        assert_eq!(judge(status("Failure", "exit code 126")), Some("exit code 126".to_owned()));
        assert!(judge(None).unwrap().contains("was lost"));
    }
}
