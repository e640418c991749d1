//! An agent as a process of this machine: by itself, in another network namespace, or by a command such as ssh.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;

use super::{Connection, Process};
use podtrace_protocol::inventory::{Node, Run};

/// Starts the agent of a node.
pub(super) fn connect(node: &Node) -> Result<Connection> {
    let own = std::env::current_exe().context("finding podtrace's own binary")?;
    let mut command = match &node.run {
        Run::Here | Run::Netns(_) => Command::new(own),
        Run::Command(words) => {
            let (program, arguments) = words.split_first().with_context(|| {
                format!("the inventory has an empty `run` command for node {}", node.name)
            })?;
            let mut command = Command::new(program);
            command.args(arguments).arg("podtrace");
            command
        }
        Run::Kubernetes => bail!("node {} can be reached only through the Kubernetes API", node.name),
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
    Ok(Connection { process: Process::Command(process), input: Box::new(input), output: Box::new(output) })
}

fn enter(namespace: &File) -> std::io::Result<()> {
    // SAFETY: a system call on an open descriptor.
    match unsafe { nix::libc::setns(namespace.as_raw_fd(), nix::libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
