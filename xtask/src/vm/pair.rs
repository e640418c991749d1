//! Two guests with a node each, wired to each other: two kernels, two clocks, one path. Agents are reached over a port
//! of each machine, from a tracer on this one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use super::fleet::Fleet;
use super::guest::Guest;
use super::kernel::Kernel;
use super::payload::{PODTRACE, Payload};
use super::row::Row;
use super::script::quoted_path;
use super::series::Series;
use crate::run;
use crate::tally::Tally;

/// The test of `podtrace-tests` that traces between the guests. It runs on this machine.
pub(super) const SUITE: &str = "pair";

/// What carries an agent's stdin and stdout, and what listens in a pod.
const RELAY: &str = "relay";
const TRAFFIC: &str = "traffic";

/// Sets up a guest's half of a lab.
const HALF_LAB: &str = include_str!("half-lab.sh");

/// The port of a machine that leads to its agent.
const PORT: &str = "/dev/virtio-ports/agent";

/// What a guest says once its agent can be reached.
const READY: &str = "@vm ready";

/// How much later the second guest is booted: clocks count from then on.
const SKEW: Duration = Duration::from_secs(5);

/// How long a guest may take to be ready.
const BOOT: Duration = Duration::from_secs(180);

/// How long both may take, from launch to exit.
const WITHIN: Duration = Duration::from_secs(400);

/// Factor of the deadlines of the test.
const PATIENCE: &str = "6";

/// Two kernels that are booted as a pair.
pub(super) struct Pair<'a> {
    pub(super) fleet: &'a Fleet<'a>,
    pub(super) kernels: [&'a (Series, Kernel); 2],
}

/// Where the two machines meet this one and each other: sockets in a directory of their own.
struct Sockets(PathBuf);

impl Sockets {
    /// The path of a socket may only be short, so not in the target directory.
    fn make() -> Result<Self> {
        let directory = std::env::temp_dir().join(format!("podtrace-vm-{}", std::process::id()));
        fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        Ok(Self(directory))
    }

    fn wire(&self) -> PathBuf {
        self.0.join("wire")
    }

    fn agent(&self, node: usize) -> PathBuf {
        self.0.join(format!("agent{node}"))
    }

    /// What QEMU needs for node 1 or 2.
    fn devices(&self, node: usize) -> Vec<String> {
        let server = if node == 1 { "on" } else { "off" };
        [
            "-netdev".to_owned(),
            format!("stream,id=wire,server={server},addr.type=unix,addr.path={}", self.wire().display()),
            "-device".to_owned(),
            format!("virtio-net-pci,netdev=wire,mac=0a:58:c0:a8:38:{:02x}", 10 + node),
            "-chardev".to_owned(),
            format!("socket,id=agent,server=on,wait=off,path={}", self.agent(node).display()),
            "-device".to_owned(),
            "virtio-serial-pci".to_owned(),
            "-device".to_owned(),
            "virtserialport,chardev=agent,name=agent".to_owned(),
        ]
        .into()
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        // Of no use to anybody, and made anew each time.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Pair<'_> {
    /// Boots both, traces between them, and says what came of it.
    pub(super) fn test(&self) -> Row {
        let [(one, first), (other, second)] = self.kernels;
        let name = format!("{} to {}", first.upstream(), second.upstream());
        let started = Instant::now();
        let tested = run::watched(&format!("testing between kernels {one} and {other}"), |progress| {
            self.boot_and_test(|line| progress.tell(line))
        });
        let mut row = match tested {
            Ok(row) => row,
            Err(error) => {
                let details = vec![format!("error: kernels {name}: {error:#}; {}", self.where_to_look())];
                Row { problem: Some("the pair failed".to_owned()), details, ..Row::default() }
            }
        };
        row.kernel = name;
        row.took = Some(started.elapsed());
        row
    }

    fn guest(&self, node: usize, sockets: &Sockets) -> Guest<'_> {
        let (series, kernel) = self.kernels[node - 1];
        let mut guest = self.fleet.guest(*series, kernel);
        guest.logs = guest.logs.with_file_name(format!("pair-{series}"));
        guest.devices = sockets.devices(node);
        guest.within = WITHIN;
        guest
    }

    fn where_to_look(&self) -> String {
        let [one, other] = self.kernels.map(|(series, kernel)| {
            let logs = self.fleet.guest(*series, kernel).logs.with_file_name(format!("pair-{series}"));
            logs.display().to_string()
        });
        format!("consoles and outputs are in {one} and {other}")
    }

    fn boot_and_test(&self, mut on_line: impl FnMut(&str)) -> Result<Row> {
        let payload = self.fleet.payload;
        let sockets = Sockets::make()?;
        let relay = payload.program(RELAY)?;
        thread::scope(|scope| {
            let boot = |node: usize| -> Result<(Receiver<()>, _)> {
                let (sender, ready) = mpsc::channel();
                let script = script(node, payload)?;
                let guest = self.guest(node, &sockets);
                let thread = scope.spawn(move || {
                    guest.run(&script, |line| {
                        if line == READY {
                            // Nobody waits any more if the other guest has failed.
                            let _ = sender.send(());
                        }
                    })
                });
                Ok((ready, thread))
            };
            let wait = |node: usize, ready: &Receiver<()>| {
                ready.recv_timeout(BOOT).map_err(|error| anyhow!("node{node} was not ready: {error}"))
            };
            let booted = Instant::now();
            let (ready, first) = boot(1)?;
            let tested = wait(1, &ready).and_then(|()| {
                thread::sleep(SKEW.saturating_sub(booted.elapsed()));
                let (ready, second) = boot(2)?;
                let tested = wait(2, &ready).and_then(|()| trace(payload, &sockets, &mut on_line));
                end(relay, &sockets.agent(2));
                second.join().map_err(|_| anyhow!("the guest's thread panicked"))?.context("node2")?;
                tested
            });
            end(relay, &sockets.agent(1));
            let ended = first.join().map_err(|_| anyhow!("the guest's thread panicked"))?.context("node1");
            let row = tested?;
            ended?;
            Ok(row)
        })
    }
}

/// What a guest runs: its half of a lab, listeners in its pods, and its agent for whoever calls.
fn script(node: usize, payload: &Payload) -> Result<String> {
    let traffic = quoted_path(payload.program(TRAFFIC)?);
    let relay = quoted_path(payload.program(RELAY)?);
    let listeners = match node {
        1 => String::new(),
        _ => format!(
            "ip netns exec pod3 {traffic} udp-sink 5000 1000 &\n\
             ip netns exec pod3 {traffic} tcp-sink 5001 &\n"
        ),
    };
    Ok(format!(
        "NODE={node}\n{HALF_LAB}\nset +e\n{listeners}\
         mkdir -p /dev/virtio-ports\n\
         for port in /sys/class/virtio-ports/*; do\n    \
             ln -s \"/dev/${{port##*/}}\" \"/dev/virtio-ports/$(cat \"$port/name\")\"\n\
         done\n\
         echo '{READY}'\n\
         {relay} serve {PORT} {PODTRACE} agent\n"
    ))
}

/// Runs the test against guests that are ready.
fn trace(payload: &Payload, sockets: &Sockets, on_line: &mut impl FnMut(&str)) -> Result<Row> {
    let inventory = sockets.0.join("cluster.yaml");
    fs::write(&inventory, cluster(payload.program(RELAY)?, sockets))
        .with_context(|| format!("cannot write {}", inventory.display()))?;
    let mut test = Command::new(payload.program(SUITE)?);
    test.env("PODTRACE_PAIR", &inventory).env("PODTRACE_BIN", payload.program("podtrace")?);
    test.env("PODTRACE_TEST_PATIENCE", PATIENCE).arg("--test-threads=1");
    let (status, said) = run::gather(&mut test, &mut *on_line)?;
    let tally = said.iter().filter_map(|line| Tally::from_closing_line(line)).next_back();
    let Some(tally) = tally.filter(|tally| tally.total() > 0) else {
        bail!("the test ended with {status}:\n{}", said.join("\n"));
    };
    ensure!(status.success() || tally.failed > 0, "the test ended with {status} without a failed test");
    let told = said.iter().filter(|_| !status.success());
    Ok(Row { tally, details: told.map(|line| format!("    {line}")).collect(), ..Row::default() })
}

/// The two halves as a cluster. YAML takes JSON's strings.
fn cluster(relay: &Path, sockets: &Sockets) -> String {
    let mut text = "nodes:\n".to_owned();
    for node in [1, 2] {
        let command =
            [relay.display().to_string(), "connect".to_owned(), sockets.agent(node).display().to_string()];
        text += &format!(
            "- {{name: node{node}, addresses: [192.168.56.1{node}], run: {{command: {}}}}}\n",
            serde_json::json!(command)
        );
    }
    text += "pods:\n";
    for (pod, node, address) in
        [(1, 1, "10.42.0.10"), (2, 1, "10.42.0.11"), (3, 2, "10.42.1.10"), (4, 2, "10.42.1.11")]
    {
        text += &format!("- {{name: pod{pod}, namespace: default, ips: [{address}], node: node{node}}}\n");
    }
    text
}

/// Tells a guest's relay that nobody will call any more; one that is gone already is left to its thread.
fn end(relay: &Path, socket: &Path) {
    let _ = run::ask(Command::new(relay).arg("end").arg(socket));
}
