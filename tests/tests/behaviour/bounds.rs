//! What many of something costs: requests to an agent, addresses of nodes, network namespaces.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufReader, Write as _};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use libtest_mimic::Trial;
use podtrace::netns;
use podtrace_protocol::codec::{read_raw, write_raw};
use podtrace_protocol::frame::{
    Configuration, FilterSpec, FromAgent, PodAddresses, Probe, ProbeKind, ToAgent,
};
use podtrace_tests::binary;
use podtrace_tests::command::{SHORT, run, succeed};
use podtrace_tests::lab::{Lab, netns_path};
use podtrace_tests::suite::trial;

use crate::{POD1, POD3};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("an-agent-has-few-threads-for-many-probes", &["nsenter"], many_probes),
        trial("nodes-may-have-many-addresses", &[] as &[&str], many_addresses),
        trial("a-node-may-have-more-namespaces-than-open-files", &["sh"], many_namespaces),
    ]
}

/// An agent on a lab's first node, which is asked for more probes than it has threads for. Refused ones are answered.
fn many_probes() -> Result<()> {
    const PROBES: usize = 300;
    let lab = Lab::up("many-probes")?;
    let mut agent = Command::new("nsenter")
        .arg(format!("--net={}", netns_path(lab.name(), "node1").display()))
        .arg(binary::podtrace()?)
        .arg("agent")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = agent.stdin.take().context("no stdin")?;
    let mut output = BufReader::new(agent.stdout.take().context("no stdout")?);
    let pod = "default/pod1".to_owned();
    let configuration = Configuration {
        filter: FilterSpec::default(),
        pods: vec![PodAddresses { pod: pod.clone(), ips: vec![POD1.parse()?] }],
        tapped_pods: vec![pod.clone()],
        node_addresses: vec!["192.168.56.11".parse()?],
    };
    // Nothing answers there, so that each probe takes its time.
    let probe =
        Probe { pod, destination: POD3.parse()?, kind: ProbeKind::Udp(9), count: 3, interval_ms: 500 };
    let id = agent.id();
    let writer = std::thread::spawn(move || -> Result<()> {
        write_raw(&mut input, &ToAgent::Configure(configuration).to_raw())?;
        for _ in 0..PROBES {
            write_raw(&mut input, &ToAgent::Probe(probe.clone()).to_raw())?;
        }
        write_raw(&mut input, &ToAgent::Stop.to_raw())?;
        input.flush()?;
        Ok(())
    });
    let (mut refused, mut most) = (0, 0);
    while let Some(raw) = read_raw(&mut output)? {
        match FromAgent::from_raw(raw)? {
            FromAgent::Failed { error } => bail!("the agent failed: {error}"),
            FromAgent::Probed { error: Some(error), sent: 0 } => {
                ensure!(error.contains("probes are running already"), "{error}");
                refused += 1;
                most = most.max(fs::read_dir(format!("/proc/{id}/task")).map_or(0, Iterator::count));
            }
            _ => {}
        }
    }
    let status = agent.wait()?;
    ensure!(status.success(), "the agent ended with {status}");
    writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
    ensure!(refused > PROBES / 2, "{refused} of {PROBES} probes were refused");
    ensure!(most < 80, "{most} threads for {PROBES} probes");
    Ok(())
}

/// More than a map of the eBPF programs has room for by default: an IPVS node has those of all Services.
fn many_addresses() -> Result<()> {
    let lab = Lab::up("many-addresses")?;
    let directory = tempfile::tempdir()?;
    let inventory = fs::read_to_string(lab.inventory())?;
    let mut inventory: BTreeMap<String, serde_json::Value> = serde_saphyr::from_str(&inventory)?;
    let nodes = inventory.get_mut("nodes").and_then(|nodes| nodes.as_array_mut()).context("no nodes")?;
    let addresses = nodes[0]["addresses"].as_array_mut().context("no addresses")?;
    addresses.extend((0..5_000).map(|n| format!("10.96.{}.{}", n / 250, n % 250 + 1).into()));
    let file = directory.path().join("cluster.yaml");
    fs::write(&file, serde_json::to_string(&inventory)?)?;
    let mut command = lab.podtrace();
    command.args(["--from", "pod1", "--to", "pod3", "--probe", "icmp", "-o", "json", "--cluster"]).arg(&file);
    let output = run(&mut command, SHORT)?;
    ensure!(output.code() == 0 && output.stdout.contains("\"complete\":true"), "{output:?}");
    Ok(())
}

/// Removes its namespaces, whatever happens.
struct Namespaces(Vec<String>);

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in &self.0 {
            // The test has failed already if one could not be created.
            let _ = netns::delete(name);
        }
    }
}

fn many_namespaces() -> Result<()> {
    const NAMESPACES: usize = 70;
    let lab = Lab::up("many-netns")?;
    let names = (0..NAMESPACES).map(|number| format!("{}-{number}", lab.name())).collect();
    let namespaces = Namespaces(names);
    namespaces.0.iter().try_for_each(|name| netns::create(name))?;
    let mut topology = lab.podtrace();
    topology.arg("topology").arg("--cluster").arg(lab.inventory());
    let words: Vec<_> = std::iter::once(topology.get_program()).chain(topology.get_args()).collect();
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 60; exec \"$@\"", "sh"]).args(words);
    for (name, value) in topology.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    let output = succeed(&mut limited, SHORT)?;
    for pod in ["pod1", "pod2", "pod3", "pod4"] {
        ensure!(output.stdout.contains(&format!("default/{pod}")), "{pod} is missing:\n{}", output.stdout);
    }
    Ok(())
}
