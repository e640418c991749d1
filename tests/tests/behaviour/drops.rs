//! `podtrace drops`: a healthy network has harmless drops only, faults are listed by cause with exact numbers, and a table lives on
//! a terminal.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use podtrace_tests::attached;
use podtrace_tests::command::{Output, Running, SHORT, run};
use podtrace_tests::lab::Lab;
use podtrace_tests::suite::trial;
use serde_json::Value;

use crate::silent::agent_on;
use crate::terminal::script;
use crate::{POD1, POD3, TRAFFIC};

/// Time limit for what a busy machine does slowly.
const LONG: Duration = Duration::from_secs(45);

/// Time limit to report what was sent: a packet that vanishes is waited for.
const ENOUGH: Duration = Duration::from_secs(20);

const SCHEMA: &str = include_str!("../../../schema/drops.schema.json");

pub(crate) fn trials() -> Vec<Trial> {
    let none: &[&str] = &[];
    vec![
        trial("drops-of-a-healthy-network-are-harmless", none, healthy),
        trial("drops-lists-three-faults-by-cause", &["nft", "ip"], three_faults),
        trial("drops-keeps-to-its-endpoints", &["ip"], endpoints),
        trial("drops-draws-a-table-and-leaves-its-end", &["script", "stty", "ip"], table),
        trial("drops-says-what-it-cannot-watch", none, unreachable),
    ]
}

fn drops(lab: &Lab, arguments: &[&str]) -> Command {
    let mut command = lab.podtrace();
    command.arg("drops").arg("--cluster").arg(lab.inventory()).args(arguments);
    command
}

fn ready(lab: &Lab, arguments: &[&str]) -> Result<Running> {
    let mut running = Running::start(&mut drops(lab, arguments))?;
    running.wait_for_line("tracing ", LONG)?;
    Ok(running)
}

/// The objects of JSON, each as the schema says.
fn objects(output: &Output) -> Result<Vec<Value>> {
    let validator = jsonschema::validator_for(&serde_json::from_str(SCHEMA)?)?;
    let parse = |line: &str| {
        let value: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        let errors: Vec<_> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
        ensure!(errors.is_empty(), "{errors:?} in {line}");
        Ok(value)
    };
    output.stdout.lines().map(parse).collect()
}

fn healthy() -> Result<()> {
    let lab = Lab::up("drops-well")?;
    let running = ready(&lab, &[])?;
    for to in [POD3, "10.42.0.11"] {
        lab.exec("pod1", [TRAFFIC, "echo", to, "5", "56"])?;
    }
    let output = running.interrupt(LONG)?;
    let first = output.stdout.lines().next().unwrap_or_default();
    ensure!(output.code() == 0 || is_doubted(&output), "{output:?}");
    ensure!(first.starts_with("NO DROPS"), "{output:?}");
    ensure!(first.contains(": 20 packets on node1, node2"), "{first}");
    ensure!(first.contains("harmless"), "the replies' spare copies are not counted: {output:?}");
    ensure!(attached::tcx(&lab)?.is_empty(), "something is left attached");
    Ok(())
}

/// The number and the verdict of the loss whose line has this text.
fn loss<'a>(objects: &'a [Value], part: &str) -> Result<&'a Value> {
    let mut found = objects.iter().filter(|object| {
        object["type"] == "loss" && object["drop"].to_string().contains(part)
            || object["advice"].to_string().contains(part)
    });
    found.next().with_context(|| format!("no loss has {part:?} among {objects:#?}"))
}

fn three_faults() -> Result<()> {
    let lab = Lab::up("drops-three")?;
    let rule = format!(
        "table inet t {{ chain f {{ type filter hook forward priority 0; ip saddr {POD1} ip daddr {POD3} drop; }}; }}"
    );
    lab.exec("node2", ["nft", &rule])?;
    lab.exec("node1", ["ip", "route", "replace", "blackhole", "10.42.1.11/32"])?;
    lab.exec("node2", ["ip", "route", "replace", "unreachable", "10.42.0.11/32"])?;
    let running = ready(&lab, &["-A", "-o", "json"])?;
    // By a rule, by a route that says nothing, by one that says so.
    for (pod, to, count) in [("pod1", POD3, "4"), ("pod2", "10.42.1.11", "3"), ("pod4", "10.42.0.11", "2")] {
        run(&mut lab.command(pod, [TRAFFIC, "echo", to, count, "56"]), SHORT)?;
    }
    // Nothing is printed before the end, which counts what is still in flight.
    let output = running.interrupt(LONG)?;
    ensure!(output.code() == 3, "{output:?}");
    let objects = objects(&output)?;
    let numbers = objects.last().context("nothing was reported")?;
    ensure!(numbers["complete"] == true, "{numbers:#}");
    let rule = loss(&objects, "NETFILTER_DROP")?;
    ensure!(rule["count"] == 4 && rule["node"] == "node2" && rule["drop"]["rule"].is_object(), "{rule:#}");
    ensure!(rule["pairs"][0]["from"]["pod"] == "default/pod1", "{rule:#}");
    let route = loss(&objects, "blackhole")?;
    ensure!(route["count"] == 3 && route["node"] == "node1", "{route:#}");
    ensure!(route["path"]["hops"].as_array().is_some_and(|hops| hops.len() > 1), "{route:#}");
    let refusal = loss(&objects, "type unreachable")?;
    ensure!(refusal["count"] == 2 && refusal["node"] == "node2", "{refusal:#}");
    let losses: Vec<_> = objects.iter().filter(|object| object["type"] == "loss").collect();
    ensure!(losses.len() == 3 && numbers["causes"] == 3, "{losses:#?}");
    let count = |object: &Value| object["count"].as_u64().unwrap_or_default();
    let sum: u64 = losses.iter().map(|loss| count(loss)).sum();
    ensure!(sum == 9 && numbers["failed"] == 9, "{numbers:#}");
    let harmless: u64 = objects.iter().filter(|object| object["type"] == "harmless").map(count).sum();
    let drops = &numbers["drops"];
    ensure!(drops["harmless"] == harmless, "{drops:#}");
    let fate = |name: &str| drops[name].as_u64().unwrap_or_default();
    ensure!(fate("seen") == fate("fatal") + fate("harmless") + fate("unexplained"), "{drops:#}");
    Ok(())
}

fn endpoints() -> Result<()> {
    let lab = Lab::up("drops-ends")?;
    lab.exec("node1", ["ip", "route", "replace", "blackhole", "10.42.1.11/32"])?;
    for (arguments, code) in [
        (&["pod1"][..], 3),
        (&["pod3"], 0),
        (&["pod4", "--proto", "icmp"], 3),
        (&["pod1", "--proto", "tcp"], 0),
    ] {
        let running = ready(&lab, arguments)?;
        run(&mut lab.command("pod1", [TRAFFIC, "echo", "10.42.1.11", "2", "56"]), SHORT)?;
        let output = running.interrupt(LONG)?;
        ensure!(output.code() == code || (code == 0 && is_doubted(&output)), "{arguments:?}: {output:?}");
    }
    for (arguments, part) in [
        (&["-n", "nowhere"][..], "there is no namespace nowhere"),
        (&["pod9"], "there is no pod default/pod9"),
        (&["pod1", "-l", "app=web"], "cannot be used with"),
    ] {
        let output = run(&mut drops(&lab, arguments), SHORT)?;
        ensure!(output.code() != 0 && output.stderr.contains(part), "{arguments:?}: {output:?}");
    }
    Ok(())
}

/// Whether nothing but programs that a busy kernel skipped keeps it from being sure that nothing was dropped.
fn is_doubted(output: &Output) -> bool {
    let doubt = output.stdout.lines().find(|line| line.contains("INCOMPLETE")).unwrap_or_default();
    output.code() == 1 && doubt.contains("skipped by the kernel") && !doubt.contains([',', ';'])
}

fn table() -> Result<()> {
    let lab = Lab::up("drops-table")?;
    lab.exec("node1", ["ip", "route", "replace", "blackhole", "10.42.1.11/32"])?;
    let line = "stty rows 24 cols 80 && exec PODTRACE drops --cluster INVENTORY --count 5";
    let mut running = Running::start(&mut script(&lab, line))?;
    running.wait_for_line("tracing ", LONG)?;
    run(&mut lab.command("pod1", [TRAFFIC, "echo", "10.42.1.11", "2", "56"]), SHORT)?;
    running.wait_until("the table has the cause", ENOUGH, |stdout| {
        Ok(stdout.contains("✗ DROPPED ×2 on node1"))
    })?;
    // It ends by itself at this number.
    run(&mut lab.command("pod1", [TRAFFIC, "echo", "10.42.1.11", "3", "56"]), SHORT)?;
    let output = running.finish(LONG)?;
    ensure!(output.code() == 3, "{output:?}");
    // What is left of it after all that was drawn over.
    let last = output.stdout.rsplit("\u{1b}[J").next().unwrap_or_default().replace("\r\n", "\n");
    ensure!(last.starts_with("FAILED  5 of 5 packets, 1 cause"), "{last}");
    ensure!(last.contains("  way   node1: ") && last.contains("  ↳ "), "{last}");
    ensure!(last.lines().all(|line| line.chars().count() <= 80), "{last}");
    Ok(())
}

/// A node whose agent cannot be started is an error; one that is lost leaves doubt.
fn unreachable() -> Result<()> {
    let lab = Lab::up("drops-lost")?;
    let directory = tempfile::tempdir()?;
    let inventory = directory.path().join("cluster.yaml");
    let node = "- name: node3\n  addresses: [192.168.56.13]\n  run: {command: [\"false\"]}\npods:\n";
    std::fs::write(&inventory, std::fs::read_to_string(lab.inventory())?.replace("pods:\n", node))?;
    let mut command = lab.podtrace();
    command.arg("drops").arg("--cluster").arg(&inventory);
    let output = run(&mut command, LONG)?;
    ensure!(output.code() == 1 && output.stderr.contains("node3"), "{output:?}");

    let mut running = ready(&lab, &[])?;
    let agent = agent_on(&lab, "node1")?;
    kill(Pid::from_raw(i32::try_from(agent)?), Signal::SIGKILL)?;
    running.wait_for_line("warning: lost node", LONG)?;
    let output = running.interrupt(LONG)?;
    ensure!(output.code() == 1, "{output:?}");
    ensure!(output.stdout.contains("NO DROPS SEEN") && output.stdout.contains("INCOMPLETE"), "{output:?}");
    Ok(())
}
