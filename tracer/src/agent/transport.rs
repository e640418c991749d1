//! Ways to reach a node: each starts an agent there and carries its frames.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::cluster::{Node, Run};

/// An agent under way. Dropping it ends the agent.
#[derive(Debug)]
pub struct Connection {
    /// To keep, so that the process lives.
    pub process: Child,
    /// Frames to it.
    pub input: ChildStdin,
    /// Frames from it.
    pub output: ChildStdout,
}

/// Starts the agent of a node.
///
/// # Errors
///
/// If the command cannot be started.
pub fn connect(node: &Node) -> Result<Connection> {
    let own = std::env::current_exe().context("finding podtrace's own binary")?;
    let mut command = match &node.run {
        Run::Here | Run::Netns(_) => Command::new(own),
        Run::Command(words) => {
            let (program, arguments) = words.split_first().with_context(|| {
                format!("the inventory gives an empty command to reach node {}", node.name)
            })?;
            let mut command = Command::new(program);
            command.args(arguments).arg("podtrace");
            command
        }
        Run::Kubernetes => bail!(
            "node {} is not this machine, and nodes are not reached through the Kubernetes API yet: run podtrace there, \
             or describe the cluster by --cluster FILE",
            node.name
        ),
    };
    command.arg("agent").stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    // Out of the terminal's process group: Ctrl-C is the tracer's to handle, which then asks for what is left.
    command.process_group(0);
    if let Run::Netns(path) = &node.run {
        let namespace = File::open(path).with_context(|| {
            format!("opening the network namespace {} of node {}", path.display(), node.name)
        })?;
        // SAFETY: between fork and exec only async-signal-safe calls may be made: setns is a plain system call,
        // and its argument is an integer that was made before.
        unsafe {
            command.pre_exec(move || enter(&namespace));
        }
    }
    let mut process = command.spawn().with_context(|| format!("starting the agent on node {}", node.name))?;
    let input = process.stdin.take().context("the agent has no stdin")?;
    let output = process.stdout.take().context("the agent has no stdout")?;
    Ok(Connection { process, input, output })
}

fn enter(namespace: &File) -> std::io::Result<()> {
    // SAFETY: a system call on an open descriptor.
    match unsafe { nix::libc::setns(namespace.as_raw_fd(), nix::libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
