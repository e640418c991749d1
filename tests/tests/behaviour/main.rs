//! Tests that do not fit into a scenario file: load, isolation, kills, errors, recordings, how a trace ends, its page, the
//! status line, `podtrace topology`, `doctor` and `drops`, and changes of a cluster during a trace.

mod agent;
mod answer;
mod bounds;
mod doctor;
mod drops;
mod ends;
mod files;
mod forged;
mod habits;
mod identity;
mod isolation;
mod kill;
mod kubernetes;
mod load;
mod page;
mod record;
mod refusals;
mod rules;
mod sample;
mod services;
mod silent;
mod stats;
mod stream;
mod terminal;
mod top;
mod topology;
mod unwatched;
mod watch;

use std::process::ExitCode;

use podtrace_path::Action;
use podtrace_tests::suite;

/// The helper that sends and receives.
const TRAFFIC: &str = env!("CARGO_BIN_EXE_traffic");

/// Addresses of the lab's pods.
const POD1: &str = "10.42.0.10";
const POD3: &str = "10.42.1.10";

/// The hops of a packet to the other node through a tunnel.
const ACROSS: [Action; 8] = [
    Action::PodEgress,
    Action::Route,
    Action::Encapsulate,
    Action::NodeEgress,
    Action::NodeIngress,
    Action::Decapsulate,
    Action::Route,
    Action::PodIngress,
];

fn main() -> ExitCode {
    let mut trials = Vec::new();
    trials.extend(agent::trials());
    trials.extend(load::trials());
    trials.extend(isolation::trials());
    trials.extend(identity::trials());
    trials.extend(stream::trials());
    trials.extend(kill::trials());
    trials.extend(refusals::trials());
    trials.extend(rules::trials());
    trials.extend(sample::trials());
    trials.extend(services::trials());
    trials.extend(silent::trials());
    trials.extend(stats::trials());
    trials.extend(record::trials());
    trials.extend(answer::trials());
    trials.extend(bounds::trials());
    trials.extend(doctor::trials());
    trials.extend(drops::trials());
    trials.extend(ends::trials());
    trials.extend(files::trials());
    trials.extend(forged::trials());
    trials.extend(habits::trials());
    trials.extend(page::trials());
    trials.extend(terminal::trials());
    trials.extend(top::trials());
    trials.extend(kubernetes::trials());
    trials.extend(topology::trials());
    trials.extend(unwatched::trials());
    trials.extend(watch::trials());
    suite::run(trials)
}
