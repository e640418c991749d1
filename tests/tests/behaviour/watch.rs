//! A cluster that changes while it is traced: pods move, go and come back, Services get other pods, nodes come into it,
//! and the API is away for a while.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use podtrace::netns;
use podtrace_path::{Change, ChangeKind, Path as Way};
use podtrace_tests::api_server::{ApiServer, Cluster};
use podtrace_tests::command::{Running, SHORT, succeed};
use podtrace_tests::lab::Lab;
use podtrace_tests::suite::trial;
use podtrace_tests::trace::Finished;
use podtrace_tests::{attached, recorded, wait};

use super::kubernetes::User;
use super::{POD1, POD3, TRAFFIC};

/// How long a trace may take to be ready.
const READY: Duration = Duration::from_secs(60);

/// The address that pod1 gets when it is made anew.
const ANEW: &str = "10.42.0.17";

pub(crate) fn trials() -> Vec<Trial> {
    let needs = ["setpriv", "nsenter", "ip"];
    vec![
        trial("kubernetes-follows-a-pod-that-is-made-anew", &needs, made_anew),
        trial("kubernetes-follows-a-service-to-other-pods", &needs, other_pods),
        trial("kubernetes-follows-a-service-in-the-middle-of-a-stream", &needs, amid_packets),
        trial("kubernetes-follows-a-pod-to-a-node-that-was-not-traced", &needs, other_node),
        trial("kubernetes-tells-of-a-pod-where-nobody-looks", &needs, nobody_looks),
        trial("kubernetes-tells-of-a-pod-that-goes-and-comes-back", &needs, goes_and_comes_back),
        trial("kubernetes-goes-on-while-the-api-is-away", &needs, api_away),
        trial("kubernetes-names-the-right-to-watch", &needs, right_to_watch),
    ]
}

/// A trace of a lab by its API server.
struct Trace {
    running: Running,
    // Dropped after what uses it.
    _user: User,
}

impl Trace {
    fn of(server: &ApiServer, arguments: &[&str]) -> Result<Self> {
        let user = User::of(server)?;
        let mut command = user.podtrace(arguments);
        let mut running = Running::start(command.args(["-o", "json", "-v"]))?;
        running.wait_for_line("tracing ", READY)?;
        Ok(Self { running, _user: user })
    }

    /// Waits until an agent has said so often that it looks for what is traced now.
    fn wait_for_agents(&self, nodes: &[&str], times: usize) -> Result<()> {
        for node in nodes {
            self.wait_for(&format!("{node}: trace filter updated"), times)?;
        }
        Ok(())
    }

    /// Waits until a line of stderr has this in it, so often.
    fn wait_for(&self, part: &str, times: usize) -> Result<()> {
        wait::until(&format!("it says `{part}`"), READY, || {
            let said = self.running.stderr();
            Ok((said.lines().filter(|line| line.contains(part)).count() >= times).then_some(()))
        })
        .with_context(|| format!("it said:\n{}", self.running.stderr()))
    }

    fn end(self) -> Result<Finished> {
        Finished::from(self.running.interrupt(SHORT)?)
    }
}

/// What became of whom.
fn whats(finished: &Finished) -> Vec<(&str, ChangeKind)> {
    finished.changes.iter().map(|Change { about, kind, .. }| (about.as_str(), *kind)).collect()
}

/// Checks that so many exchanges between two pods were seen on both nodes, from one pod's veth to the other's.
fn all_cross(paths: &[Way], one: &str, other: &str, exchanges: usize) -> Result<()> {
    for (from, to) in [(one, other), (other, one)] {
        let ends = (Some(from), Some(to));
        let ways = paths.iter().filter(|path| (path.from.pod.as_deref(), path.to.pod.as_deref()) == ends);
        let mut count = 0;
        for path in ways {
            let on = |node: &str| path.hops.iter().filter(|hop| &*hop.node == node).count();
            ensure!(on("node1") == 4 && on("node2") == 4, "{path:?}");
            count += 1;
        }
        ensure!(count == exchanges, "{count} packets from {from} to {to}: {paths:?}");
    }
    Ok(())
}

/// A pod's network that is made while a trace runs, on node1. Dropping it removes it.
struct Network {
    name: String,
}

impl Network {
    fn on_node1(lab: &Lab, address: &str) -> Result<Self> {
        let name = format!("{}-anew", lab.name());
        netns::create(&name)?;
        let path = netns::named_path(&name);
        let made = Self { name };
        let node = lab.netns("node1")?;
        let words =
            ["link", "add", "vethanew", "mtu", "1450", "type", "veth", "peer", "name", "eth0", "mtu", "1450"];
        ip(node.path(), &[&words[..], &["netns", &made.name]].concat())?;
        ip(node.path(), &["link", "set", "vethanew", "master", "cni0", "up"])?;
        ip(&path, &["address", "add", &format!("{address}/24"), "dev", "eth0"])?;
        ip(&path, &["link", "set", "eth0", "up"])?;
        ip(&path, &["route", "add", "default", "via", "10.42.0.1"])?;
        Ok(made)
    }

    fn exec(&self, words: &[&str]) -> Result<()> {
        let path = netns::named_path(&self.name);
        succeed(Command::new("nsenter").arg(format!("--net={}", path.display())).args(words), SHORT)?;
        Ok(())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Err(error) = netns::delete(&self.name) {
            eprintln!("the network namespace {} is left behind: {error:#}", self.name);
        }
    }
}

fn ip(netns: &Path, words: &[&str]) -> Result<()> {
    succeed(Command::new("nsenter").arg(format!("--net={}", netns.display())).arg("ip").args(words), SHORT)?;
    Ok(())
}

/// A pod is removed and made anew with a network of its own: its packets have its name before and after, and the
/// recording tells the same.
fn made_anew() -> Result<()> {
    let lab = Lab::up("watch-anew")?;
    let server = ApiServer::start(&lab, Cluster { installed: true, ..Cluster::default() })?;
    let directory = writable()?;
    let file = directory.path().join("trace.pcapng");
    let file = file.to_str().context("a path that is no text")?;
    let trace = Trace::of(&server, &["--from", "pod1", "--to", "pod3", "--write", file])?;
    lab.exec("pod1", [TRAFFIC, "echo", POD3, "2", "56"])?;
    ip(lab.netns("pod1")?.path(), &["link", "delete", "eth0"])?;
    let anew = Network::on_node1(&lab, ANEW)?;
    server.run_pod("pod1", ANEW, "node1", "2");
    trace.wait_for_agents(&["node1", "node2"], 1)?;
    anew.exec(&[TRAFFIC, "echo", POD3, "2", "56"])?;
    lab.exec("pod3", [TRAFFIC, "echo", ANEW, "1", "56"])?;
    let finished = trace.end()?;
    finished.complete()?;
    ensure!(whats(&finished) == [("default/pod1", ChangeKind::Moved)], "{:?}", finished.changes);
    let change = &finished.changes[0];
    let place = |place: &Option<podtrace_path::Place>| {
        place.as_ref().map(|place| (place.ips[0].to_string(), place.node.clone().unwrap_or_default()))
    };
    ensure!(place(&change.was) == Some((POD1.to_owned(), "node1".to_owned())), "{change:?}");
    ensure!(place(&change.now) == Some((ANEW.to_owned(), "node1".to_owned())), "{change:?}");
    all_cross(&finished.paths, "default/pod1", "default/pod3", 5)?;
    let by_address = |address: &str| {
        let has = |path: &&Way| [path.from.ip, path.to.ip].iter().any(|ip| ip.to_string() == address);
        finished.paths.iter().filter(has).count()
    };
    ensure!((by_address(POD1), by_address(ANEW)) == (4, 6), "{}", finished.stdout);
    recorded::tells_the_same(&finished, &[Path::new(file)])?;
    // By the name, which meant two addresses.
    let some = succeed(
        Command::new(podtrace_tests::binary::podtrace()?)
            .args(["read", file, "-o", "json", "--from", "pod1"]),
        SHORT,
    )?;
    ensure!(some.stdout.matches("\"type\":\"path\"").count() == 10, "{}", some.stdout);
    wait::until("nothing is attached any more", SHORT, || Ok(attached::tcx(&lab)?.is_empty().then_some(())))
}

/// A directory that users without rights write to.
fn writable() -> Result<tempfile::TempDir> {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir()?;
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o777))?;
    Ok(directory)
}

/// A rollout: the Service stays, and the pods behind it are others.
fn other_pods() -> Result<()> {
    let lab = Lab::up("watch-svc")?;
    let server = ApiServer::start(&lab, Cluster { installed: true, ..Cluster::default() })?;
    server.serve_by("web", &["pod3"]);
    let trace = Trace::of(&server, &["--from", "pod1", "--to", "svc/web"])?;
    lab.exec("pod1", [TRAFFIC, "echo", POD3, "1", "56"])?;
    server.serve_by("web", &["pod4"]);
    trace.wait_for_agents(&["node1", "node2"], 1)?;
    lab.exec("pod1", [TRAFFIC, "echo", "10.42.1.11", "1", "56"])?;
    let finished = trace.end()?;
    finished.complete()?;
    ensure!(whats(&finished) == [("svc/default/web", ChangeKind::Endpoints)], "{:?}", finished.changes);
    ensure!(
        finished.changes[0].added == ["default/pod4"] && finished.changes[0].removed == ["default/pod3"],
        "{:?}",
        finished.changes
    );
    all_cross(&finished.paths, "default/pod1", "default/pod3", 1)?;
    all_cross(&finished.paths, "default/pod1", "default/pod4", 1)
}

/// Packets pass while the nodes begin to look for them, one a little before the other: none has vanished, and what was
/// not to be seen yet is no loss.
fn amid_packets() -> Result<()> {
    let lab = Lab::up("watch-amid")?;
    let server = ApiServer::start(&lab, Cluster { installed: true, ..Cluster::default() })?;
    server.serve_by("web", &["pod3"]);
    let directory = writable()?;
    let file = directory.path().join("trace.pcapng");
    let file = file.to_str().context("a path that is no text")?;
    let trace = Trace::of(&server, &["--from", "pod1", "--to", "svc/web", "--write", file])?;
    // A few at a time, again and again; it ends by itself should it outlive this.
    let again = "i=0; while [ $i -lt 20000 ] && \"$0\" echo 10.42.1.11 4 56; do i=$((i + 1)); done";
    let stream = lab.spawn("pod1", ["sh", "-c", again, TRAFFIC])?;
    server.serve_by("web", &["pod3", "pod4"]);
    trace.wait_for_agents(&["node1", "node2"], 1)?;
    wait::until("many are reported", READY, || {
        Ok((trace.running.stdout().matches("\"type\":\"path\"").count() > 200).then_some(()))
    })?;
    drop(stream);
    let finished = trace.end()?;
    finished.complete()?;
    let paths = finished.summary()?.paths;
    ensure!(paths.vanished == 0 && paths.dropped == 0, "{paths:?}");
    recorded::tells_the_same(&finished, &[Path::new(file)])
}

/// Both pods are on one node; then one is on the other.
fn other_node() -> Result<()> {
    let lab = Lab::up("watch-node")?;
    // Its agents are made, and removed in the end.
    let server = ApiServer::start(&lab, Cluster::default())?;
    let directory = writable()?;
    let file = directory.path().join("trace.pcapng");
    let file = file.to_str().context("a path that is no text")?;
    let trace = Trace::of(&server, &["--from", "pod1", "--to", "pod2", "--write", file])?;
    ensure!(server.agent_pods().len() == 1, "{:?}", server.agent_pods());
    lab.exec("pod1", [TRAFFIC, "echo", "10.42.0.11", "1", "56"])?;
    server.remove_pod("pod3");
    server.run_pod("pod2", POD3, "node2", "2");
    trace.wait_for_agents(&["node1"], 1)?;
    trace.wait_for("node2: eth0 tc:ingress", 1)?;
    wait::until("node2 is traced", READY, || {
        Ok(trace.running.stdout().contains("\"about\":\"node/node2\"").then_some(()))
    })?;
    lab.exec("pod1", [TRAFFIC, "echo", POD3, "1", "56"])?;
    let finished = trace.end()?;
    finished.complete()?;
    ensure!(
        whats(&finished) == [("default/pod2", ChangeKind::Moved), ("node/node2", ChangeKind::Traced)],
        "{:?}",
        finished.changes
    );
    ensure!(finished.paths.len() == 4, "{}", finished.stdout);
    // Two of them stayed on their node.
    let crossing: Vec<_> = finished.paths.iter().filter(|path| path.hops.len() == 8).cloned().collect();
    all_cross(&crossing, "default/pod1", "default/pod2", 1)?;
    recorded::tells_the_same(&finished, &[Path::new(file)])?;
    ensure!(server.agent_pods().is_empty(), "left: {:?}", server.agent_pods());
    Ok(())
}

/// Where no agent can be started, a trace says what it does not see, and is not complete.
fn nobody_looks() -> Result<()> {
    let lab = Lab::up("watch-blind")?;
    let server =
        ApiServer::start(&lab, Cluster { installed: true, broken: Some("node2"), ..Cluster::default() })?;
    let trace = Trace::of(&server, &["--from", "pod1", "--to", "pod2"])?;
    server.remove_pod("pod3");
    server.run_pod("pod2", POD3, "node2", "2");
    wait::until("it tells that nobody looks", READY, || {
        Ok(trace.running.stdout().contains("\"what\":\"untraced\"").then_some(()))
    })?;
    let finished = trace.end()?;
    ensure!(finished.code == 0 && !finished.summary()?.complete, "{}", finished.stdout);
    ensure!(
        whats(&finished) == [("default/pod2", ChangeKind::Moved), ("default/pod2", ChangeKind::Untraced)],
        "{:?}",
        finished.changes
    );
    let why = finished.changes[1].detail.as_deref().unwrap_or_default();
    ensure!(why.contains("there is no such pod"), "{why}");
    ensure!(finished.stderr.contains("points that were not traced"), "{}", finished.stderr);
    Ok(())
}

fn goes_and_comes_back() -> Result<()> {
    let lab = Lab::up("watch-back")?;
    let server = ApiServer::start(&lab, Cluster { installed: true, ..Cluster::default() })?;
    let trace = Trace::of(&server, &["--from", "pod1", "--to", "pod3"])?;
    let says = |what: &str| {
        wait::until(&format!("it tells `{what}`"), READY, || {
            Ok(trace.running.stdout().contains(&format!("\"what\":\"{what}\"")).then_some(()))
        })
    };
    server.remove_pod("pod1");
    says("gone")?;
    server.run_pod("pod1", POD1, "node1", "2");
    says("back")?;
    trace.wait_for_agents(&["node1"], 1)?;
    lab.exec("pod1", [TRAFFIC, "echo", POD3, "1", "56"])?;
    let finished = trace.end()?;
    finished.complete()?;
    ensure!(
        whats(&finished) == [("default/pod1", ChangeKind::Gone), ("default/pod1", ChangeKind::Back)],
        "{:?}",
        finished.changes
    );
    all_cross(&finished.paths, "default/pod1", "default/pod3", 1)
}

/// The API cannot be reached for a while: the trace continues, and changes of the cluster meanwhile are reported then,
/// also if the server does not know any more what came after what.
fn api_away() -> Result<()> {
    let lab = Lab::up("watch-away")?;
    let server = ApiServer::start(&lab, Cluster { installed: true, ..Cluster::default() })?;
    let trace = Trace::of(&server, &["--from", "pod1", "--to", "pod3"])?;
    server.set_up(false);
    trace.wait_for("cannot reach the Kubernetes API", 1)?;
    lab.exec("pod1", [TRAFFIC, "echo", POD3, "1", "56"])?;
    ip(lab.netns("pod1")?.path(), &["link", "delete", "eth0"])?;
    let anew = Network::on_node1(&lab, ANEW)?;
    server.run_pod("pod1", ANEW, "node1", "2");
    server.forget();
    server.set_up(true);
    trace.wait_for("the Kubernetes API is back", 1)?;
    trace.wait_for_agents(&["node1", "node2"], 1)?;
    anew.exec(&[TRAFFIC, "echo", POD3, "1", "56"])?;
    let finished = trace.end()?;
    finished.complete()?;
    ensure!(finished.stderr.matches("cannot reach the Kubernetes API").count() == 1, "{}", finished.stderr);
    ensure!(whats(&finished) == [("default/pod1", ChangeKind::Moved)], "{:?}", finished.changes);
    all_cross(&finished.paths, "default/pod1", "default/pod3", 2)
}

fn right_to_watch() -> Result<()> {
    let lab = Lab::up("watch-right")?;
    let server =
        ApiServer::start(&lab, Cluster { installed: true, unwatchable: true, ..Cluster::default() })?;
    let trace = Trace::of(&server, &["--from", "pod1", "--to", "pod3"])?;
    trace.wait_for("are not watched", 1)?;
    lab.exec("pod1", [TRAFFIC, "echo", POD3, "1", "56"])?;
    let finished = trace.end()?;
    finished.complete()?;
    let lines: Vec<_> = finished.stderr.lines().filter(|line| line.starts_with("warning: ")).collect();
    ensure!(lines.len() == 1, "{lines:?}");
    for part in ["does not let you watch", "watch pods in the whole cluster", "--clusterrole=podtrace-names"]
    {
        ensure!(lines[0].contains(part), "`{part}` is not in {}", lines[0]);
    }
    all_cross(&finished.paths, "default/pod1", "default/pod3", 1)
}
