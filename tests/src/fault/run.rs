//! Breaks a lab, traces in it, and gathers what podtrace says.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use super::advised;
use super::data::{Step, Variant};
use super::names::{DNS, WEB, address_of};
use crate::command::{self, Running};
use crate::kernel;
use crate::lab::Lab;
use crate::stacks::two_stacks;

/// How long a trace may take to be ready, and a server.
const READY: Duration = Duration::from_secs(40);

/// How long a trace may take to end, its traffic's time included.
const END: Duration = Duration::from_secs(40);

/// How long a trace listens whose traffic it does not send itself: longer than the kernel looks for a neighbour.
const LISTENS: &str = "7s";

/// What a trace said.
#[derive(Clone, Debug)]
pub struct Said {
    /// Its exit status.
    pub code: i32,
    /// Its text and its diagnostics: what a user reads.
    pub text: String,
    /// Its paths as JSON.
    pub paths: Vec<Value>,
    /// Its summary as JSON.
    pub summary: Value,
    /// Commands of its advice that do not work as printed, and fixes that do not heal.
    pub unheld: Vec<String>,
}

/// Runs a variant in a lab of its own, which is removed at the end. `traffic` is the helper that commands call so.
///
/// # Errors
///
/// If the lab, the fault or the trace cannot be made; what podtrace says is no error, whatever it is.
pub fn run(variant: &Variant, traffic: &str) -> Result<Said> {
    let what = &variant.what;
    let Prepared { lab, servers } = prepare(variant, traffic)?;
    if !variant.ways.during {
        broken(variant, &lab, traffic)?;
    }
    let directory = tempfile::tempdir().context("making a directory for the recording")?;
    let file = directory.path().join("trace.pcapng");
    let mut trace = start(variant, &lab, &file)?;
    if variant.ways.during || !what.traffic.is_empty() {
        trace.wait_for_line("tracing ", READY)?;
    }
    if variant.ways.during {
        broken(variant, &lab, traffic)?;
    }
    if what.traffic.is_empty() && variant.ways.during {
        send(variant, &lab, traffic)?;
    }
    for step in &what.traffic {
        step.whatever(&lab, traffic)?;
    }
    let output = trace.finish(END)?;
    let (paths, summary) = read(&lab, &directory, &file)?;
    ensure!(!output.stderr.contains("panicked"), "podtrace panicked:\n{}", output.stderr);
    let code = output.code();
    let text = format!("{}{}", output.stdout, output.stderr);
    let unheld = if what.healthy { Vec::new() } else { advised::check(variant, &lab, &text)? };
    drop(servers);
    Ok(Said { code, text, paths, summary, unheld })
}

/// A lab with what runs in it.
#[derive(Debug)]
pub struct Prepared {
    /// The lab.
    pub lab: Lab,
    servers: Vec<Running>,
}

/// A lab that is broken as a variant says, after its client sent something.
///
/// # Errors
///
/// If the lab or the fault cannot be made.
pub fn break_lab(variant: &Variant, traffic: &str) -> Result<Prepared> {
    let prepared = prepare(variant, traffic)?;
    broken(variant, &prepared.lab, traffic)?;
    // So that neighbours that do not answer are known not to.
    warm(variant, &prepared.lab)?;
    Ok(prepared)
}

/// A lab that is not broken yet, with the variant's servers.
fn prepare(variant: &Variant, traffic: &str) -> Result<Prepared> {
    let what = &variant.what;
    // The pods have servers only where there are Services; pod1 has none.
    let wants_server = variant.ways.protocol != "icmp" && what.rules == "none";
    let rules = if wants_server { "nft" } else { &what.rules };
    let lab = if variant.ways.ipv6 {
        two_stacks(&variant.kind, rules)?
    } else {
        Lab::up_with(&variant.kind, rules)?
    };
    for step in &what.prepare {
        step.must(&lab, traffic)?;
    }
    if !variant.ways.cold {
        warm(variant, &lab)?;
    }
    let mut servers = Vec::new();
    for server in &what.serve {
        let mut running = lab.spawn(&server.on, words(&server.run, traffic))?;
        if let Some(ready) = &server.ready {
            running.wait_for_line(ready, READY)?;
        }
        servers.push(running);
    }
    if variant.ways.protocol == "tcp" && variant.ways.server() == "pod1" {
        let mut running = lab.spawn("pod1", ["nc.openbsd", "-l", "-k", "-n", "-v", &WEB.to_string()])?;
        running.wait_for_line("Listening", READY)?;
        servers.push(running);
    }
    Ok(Prepared { lab, servers })
}

/// Lets the two pods and their nodes learn each other's link addresses.
fn warm(variant: &Variant, lab: &Lab) -> Result<()> {
    let (client, server) = (variant.ways.client(), variant.ways.server());
    // Whether it is answered is the fault's business where `prepare` has made one.
    let ping = ["ping", "-n", "-q", "-c", "1", "-W", "1", &address_of(&variant.ways, server)?];
    command::run(&mut lab.command(client, ping), command::SHORT).map(drop)
}

fn broken(variant: &Variant, lab: &Lab, traffic: &str) -> Result<()> {
    for step in &variant.what.fault {
        step.must(lab, traffic)?;
    }
    if variant.ways.cold {
        for (on, device) in [
            (variant.ways.src.as_str(), "eth0"),
            (&variant.ways.dst, "eth0"),
            ("node1", "cni0"),
            ("node2", "cni0"),
        ] {
            // A pod may have lost its device by the fault.
            let flush = ["ip", "neigh", "flush", "dev", device];
            command::run(&mut lab.command(on, flush), command::SHORT)?;
        }
    }
    Ok(())
}

fn start(variant: &Variant, lab: &Lab, file: &Path) -> Result<Running> {
    let (client, mut server) = (variant.ways.client(), variant.ways.server().to_owned());
    if variant.ways.ipv6 {
        server = address_of(&variant.ways, &server)?;
    }
    let arguments = match &variant.what.trace {
        Some(trace) => trace.clone(),
        None if variant.ways.during || !variant.what.traffic.is_empty() => {
            format!("--from {client} --to {server} --timeout {LISTENS}")
        }
        None => {
            let probe = match variant.ways.protocol.as_str() {
                "tcp" => format!("tcp:{WEB}"),
                "udp" => format!("udp:{DNS}"),
                other => other.to_owned(),
            };
            format!("--from {client} --to {server} --probe {probe}")
        }
    };
    let mut command = lab.podtrace();
    let arguments = arguments.split_whitespace().map(kernel::in_its_time);
    command.arg("--cluster").arg(lab.inventory()).args(arguments).arg("--write").arg(file);
    Running::start(&mut command)
}

/// The variant's packets, where the trace does not send them.
fn send(variant: &Variant, lab: &Lab, traffic: &str) -> Result<()> {
    let (client, server) = (variant.ways.client(), address_of(&variant.ways, variant.ways.server())?);
    let run = match variant.ways.protocol.as_str() {
        "tcp" => format!("nc.openbsd -n -v -z -w 2 {server} {WEB}"),
        "udp" => format!("traffic udp {server} {DNS} 2 56"),
        _ => format!("ping -n -c 2 -i 0.5 -W 1 {server}"),
    };
    Step { on: client.to_owned(), run, status: None }.whatever(lab, traffic)
}

/// The recording as JSON.
fn read(lab: &Lab, _directory: &TempDir, file: &Path) -> Result<(Vec<Value>, Value)> {
    let mut command = lab.podtrace();
    command.arg("read").arg(file).args(["-o", "json"]);
    if !file.exists() {
        return Ok((Vec::new(), Value::Null));
    }
    let output = command::run(&mut command, command::SHORT)?;
    let (mut paths, mut summary) = (Vec::new(), Value::Null);
    for line in output.stdout.lines() {
        let value: Value = serde_json::from_str(line).with_context(|| format!("no JSON: {line}"))?;
        match value["type"].as_str() {
            Some("path") => paths.push(value),
            Some("summary") => summary = value,
            _ => {}
        }
    }
    Ok((paths, summary))
}

impl Step {
    /// Runs it; it has to end with its status.
    fn must(&self, lab: &Lab, traffic: &str) -> Result<()> {
        let output = command::run(&mut lab.command(&self.on, words(&self.run, traffic)), command::SHORT)?;
        if output.code() != self.status.unwrap_or(0) {
            bail!(
                "`{}` on {} ended with {}:\n{}{}",
                self.run,
                self.on,
                output.code(),
                output.stdout,
                output.stderr
            );
        }
        Ok(())
    }

    /// Runs it; how it ends is only looked at if the data says how.
    fn whatever(&self, lab: &Lab, traffic: &str) -> Result<()> {
        if self.status.is_some() {
            return self.must(lab, traffic);
        }
        command::run(&mut lab.command(&self.on, words(&self.run, traffic)), command::SHORT).map(drop)
    }
}

/// The words of a command: split at spaces, or a shell's if it holds what only a shell understands.
pub(super) fn words(line: &str, traffic: &str) -> Vec<String> {
    if line.contains(['|', '>', '\'', '"', ';', '&', '(']) {
        return vec!["sh".to_owned(), "-c".to_owned(), line.replace("traffic ", &format!("{traffic} "))];
    }
    line.split_whitespace()
        .map(|word| if word == "traffic" { traffic.to_owned() } else { word.to_owned() })
        .collect()
}
