//! `podtrace topology`: what it draws is what others see, and what it cannot look at it says.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use podtrace_tests::command::{SHORT, run, succeed};
use podtrace_tests::lab::Lab;
use podtrace_tests::suite::trial;
use podtrace_tests::{attached, binary, expect};
use serde_json::Value;

pub(crate) fn trials() -> Vec<Trial> {
    let none: &[&str] = &[];
    vec![
        trial("topology-is-as-ip-sees-it", &["ip"], as_ip_sees_it),
        trial("topology-is-drawn", none, drawn),
        trial("topology-names-a-node-that-cannot-be-reached", none, unreachable),
        trial("topology-finds-pods-from-a-container", &["nsenter", "unshare", "mount"], from_a_container),
        trial("topology-finds-pods-by-their-processes", &["nsenter", "unshare", "mount"], by_processes),
        trial("topology-needs-root", &["setpriv"], without_root),
    ]
}

fn topology(lab: &Lab) -> Command {
    let mut command = lab.podtrace();
    command.arg("topology").arg("--cluster").arg(lab.inventory());
    command
}

fn nodes_of(command: &mut Command) -> Result<Vec<Value>> {
    let output = succeed(command.args(["-o", "json"]), SHORT)?;
    output.stdout.lines().map(|line| serde_json::from_str(line).context("no JSON")).collect()
}

fn device(node: &Value, is: impl Fn(&Value) -> bool) -> Result<&Value> {
    let devices = node["devices"].as_array().context("a node without devices")?;
    devices.iter().find(|device| is(device)).with_context(|| format!("no such device: {node}"))
}

fn as_ip_sees_it() -> Result<()> {
    let lab = Lab::up("map-ip")?;
    let nodes = nodes_of(&mut topology(&lab))?;
    for (node, name, other, pods) in [
        (0, "node1", ("node2", "192.168.56.12", "10.42.1.0/24"), ["pod1", "pod2"]),
        (1, "node2", ("node1", "192.168.56.11", "10.42.0.0/24"), ["pod3", "pod4"]),
    ] {
        let node = nodes.get(node).with_context(|| format!("{name} is missing"))?;
        ensure!(node["node"] == name, "{name} was to come here: {node}");
        for pod in pods {
            let hangs = device(node, |device| device["pod"]["name"] == format!("default/{pod}"))?;
            ensure!(hangs["bridge"] == "cni0" && hangs["role"] == "pod-veth", "{pod} hangs on {hangs}");
            // `eth0@if5` in the pod, and at the node the device of that index.
            let inside = lab.exec(pod, ["ip", "-o", "link", "show", "eth0"])?.stdout;
            let index =
                inside.split("@if").nth(1).and_then(|rest| rest.split(':').next()).context("no pair")?;
            let outside = lab.exec(name, ["ip", "-o", "link"])?.stdout;
            let at_node = outside.lines().find(|line| line.starts_with(&format!("{index}: ")));
            let veth = hangs["name"].as_str().context("a device without a name")?;
            ensure!(
                at_node.is_some_and(|line| line.contains(&format!(" {veth}@"))),
                "{pod} at {veth}: {outside}"
            );
        }
        let (other, address, network) = other;
        for (device_name, role, networks) in
            [("flannel.1", "tunnel", vec![network]), ("eth0", "uplink", vec![])]
        {
            let found = device(node, |device| device["name"] == device_name)?;
            let peer = &found["peers"][0];
            ensure!(found["role"] == role, "{found}");
            ensure!(peer["node"] == other && peer["address"] == address, "beyond {device_name}: {found}");
            ensure!(peer["networks"] == serde_json::to_value(networks)?, "beyond {device_name}: {found}");
        }
    }
    Ok(())
}

fn drawn() -> Result<()> {
    let lab = Lab::up("map-text")?;
    let output = succeed(&mut topology(&lab), SHORT)?;
    let expected = "node1  192.168.56.11\n\
                    ├─ cni0 * bridge * 10.42.0.1/24 *\n\
                    │  ├─ veth* eth0 * 10.42.0.10/24 * default/pod1\n\
                    │  └─ veth* eth0 * 10.42.0.11/24 * default/pod2\n\
                    ├─ flannel.1 * vxlan vni 1 udp 8472 * sends from 192.168.56.11 over eth0\n\
                    │  ╘═ node2 * 192.168.56.12 * for 10.42.1.0/24\n\
                    └─ eth0 * uplink (veth) * 192.168.56.11/24 *\n\
                    *node2  192.168.56.12\n\
                    *default/pod3\n\
                    *default/pod4\n*";
    ensure!(expect::fits(expected, &output.stdout), "{}\nand not\n{expected}", output.stdout);
    ensure!(output.stderr.is_empty() && !output.stdout.contains('\u{1b}'), "{output:?}");
    ensure!(attached::tcx(&lab)?.is_empty(), "looking attached something");
    Ok(())
}

/// A node that cannot be reached is named, as are pods that are not there, and the rest is drawn.
fn unreachable() -> Result<()> {
    let lab = Lab::up("map-gone")?;
    let directory = tempfile::tempdir()?;
    let inventory = directory.path().join("cluster.yaml");
    let text = fs::read_to_string(lab.inventory())?
        .replace(
            "pods:\n",
            "- name: node3\n  addresses: [192.168.56.13]\n  run: {command: [\"false\"]}\npods:\n",
        )
        .replace("services: []", "- {name: gone, ips: [10.42.0.99], node: node1}\nservices: []");
    ensure!(text.contains("node3") && text.contains("gone"), "the inventory is not as expected:\n{text}");
    fs::write(&inventory, text)?;
    let mut command = lab.podtrace();
    let output = run(command.arg("topology").arg("--cluster").arg(&inventory), SHORT)?;
    ensure!(output.code() == 1, "it ended with {}", output.code());
    for part in [
        "default/pod1\n",
        "default/pod4\n",
        "node3  192.168.56.13   UNREACHABLE ",
        "the tunnel has no FDB entry for this node\n",
        "not found: no network namespace behind a veth has its address\n",
    ] {
        ensure!(output.stdout.contains(part), "`{part}` is not in\n{}", output.stdout);
    }
    ensure!(output.stderr.contains("warning: node3: could not read the topology: "), "{}", output.stderr);
    Ok(())
}

/// An agent with mounts of its own, as in a pod, beside the node's first process: no process lives in the pods'
/// namespaces, and their names are not among its own files.
fn from_a_container() -> Result<()> {
    let lab = Lab::up("map-mounts")?;
    let script = "exec unshare --mount --pid --fork --kill-child --mount-proc sh -c '
        unshare --mount sh -c \"mount -t tmpfs none /run/netns && exec \\\"\\$0\\\" agent\" \"$0\"
        exit $?' \"$2\"";
    let nodes = by_agent(&lab, script)?;
    for pod in ["default/pod1", "default/pod2"] {
        device(&nodes[0], |device| device["pod"]["name"] == pod)?;
    }
    Ok(())
}

/// An agent that sees no names at all: the pod with a process in it is found, the other is said not to be.
fn by_processes() -> Result<()> {
    let lab = Lab::up("map-processes")?;
    let pod = lab.netns("pod1")?;
    let script = format!(
        "exec unshare --mount --pid --fork --kill-child --mount-proc sh -c '
            mkfifo \"$1/ready\"
            nsenter --net={} sh -c \"echo > $1/ready; exec sleep 1000\" < /dev/null > /dev/null 2>&1 &
            read -r ready < \"$1/ready\"
            mount -t tmpfs none /run/netns && exec \"$0\" agent' \"$2\" \"$1\"",
        pod.path().display()
    );
    let nodes = by_agent(&lab, &script)?;
    device(&nodes[0], |device| device["pod"]["name"] == "default/pod1")?;
    let missing = &nodes[0]["other_pods"][0];
    ensure!(missing["name"] == "default/pod2", "pod2 was to be missing: {}", nodes[0]);
    Ok(())
}

/// The topology if node1's agent is started, in node1's network, by a script: it gets a directory and the binary.
fn by_agent(lab: &Lab, script: &str) -> Result<Vec<Value>> {
    let directory = tempfile::tempdir()?;
    let node = lab.netns("node1")?;
    let start = serde_json::json!([
        "nsenter",
        format!("--net={}", node.path().display()),
        "sh",
        "-c",
        script,
        "start",
        directory.path(),
        binary::podtrace()?,
    ]);
    let text = fs::read_to_string(lab.inventory())?;
    let netns = format!("netns: {}", node.path().display());
    ensure!(text.contains(&netns), "the inventory is not as expected:\n{text}");
    let inventory = directory.path().join("cluster.yaml");
    fs::write(&inventory, text.replace(&netns, &format!("command: {start}")))?;
    let mut podtrace = lab.podtrace();
    nodes_of(podtrace.arg("topology").arg("--cluster").arg(&inventory))
}

fn without_root() -> Result<()> {
    let lab = Lab::up("map-user")?;
    // Not where only root gets to, as the binary and the inventory may be.
    let directory = tempfile::Builder::new().permissions(permissions()).tempdir()?;
    let podtrace = directory.path().join("podtrace");
    binary::copy_to(&podtrace)?;
    let inventory = directory.path().join("cluster.yaml");
    fs::write(&inventory, fs::read_to_string(lab.inventory())?)?;
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(podtrace);
    let output = run(command.arg("topology").arg("--cluster").arg(&inventory), SHORT)?;
    ensure!(output.code() == 1 && output.stdout.is_empty(), "{output:?}");
    ensure!(output.stderr.contains("needs root") && output.stderr.lines().count() == 1, "{}", output.stderr);
    Ok(())
}

fn permissions() -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o755)
}
