//! Simulated clusters, of which it is known what happens to each packet. Whatever the order of the records, whichever
//! sk_buffs are used again, and whatever is lost: nothing false may be said of a packet.
//!
//! 1. A [`plan`] is made at random: nodes, kernels, clocks, and what pods exchange.
//! 2. [`traffic`] decides what each end sends and when; [`route`] how it is translated, [`travel`] where it passes.
//! 3. [`stream`] runs the [`kernel`]s, whose programs make records, and has the agents send these.
//! 4. The engine reads them in a random order, and [`truth`] says whether what it makes of them is true.
//!
//! The plans are the same in each run. `PODTRACE_CASES` sets how many there are, `PODTRACE_SEED` makes other ones.

use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};

use crate::testkit::{Random, play};

mod found;
mod kernel;
mod network;
mod packet;
mod plan;
mod route;
mod stream;
mod traffic;
mod travel;
mod truth;

use plan::{Plan, plan};
use stream::{Clocks, Frames, Streams};
use truth::{Checked, Outcome, Truth};

/// Plans of each property.
const CASES: u32 = 300;

fn number<T: std::str::FromStr>(variable: &str, otherwise: T) -> T {
    let Ok(text) = std::env::var(variable) else { return otherwise };
    text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}"))
}

/// Checks a property of random plans. The smallest plan that fails is shown.
fn holds(lossy: bool, property: fn(&Plan) -> Checked) {
    let config = Config {
        cases: number("PODTRACE_CASES", CASES),
        failure_persistence: None,
        max_shrink_iters: 4096,
        rng_seed: RngSeed::Fixed(number("PODTRACE_SEED", 1)),
        ..Config::default()
    };
    let tested =
        TestRunner::new(config).run(&plan(lossy), |plan| property(&plan).map_err(TestCaseError::fail));
    if let Err(error) = tested {
        panic!("{error}");
    }
}

fn traced(plan: &Plan, frames: &Frames) -> Outcome {
    let (paths, summary) = play(network::context(plan.nodes), frames);
    Outcome { paths, summary }
}

/// Whether what is said of a plan's packets is true, whosever frames come first.
fn says_the_truth(plan: &Plan) -> Checked {
    let travel = traffic::all(plan);
    let records = stream::records(plan, &travel.steps);
    let streams = Streams::new(plan, &records, Clocks::Drifting);
    let truth = Truth { sent: &travel.sent, streams: &streams, is_lossy: plan.lost > 0 };
    let mut random = Random::new(plan.seed);
    truth.check(&traced(plan, &streams.interleaved(&mut random)))
}

/// Whether the same is said in whichever order the nodes' frames come.
fn says_the_same(plan: &Plan) -> Checked {
    let travel = traffic::all(plan);
    let records = stream::records(plan, &travel.steps);
    let streams = Streams::new(plan, &records, Clocks::Steady);
    let mut random = Random::new(plan.seed);
    let first = traced(plan, &streams.interleaved(&mut random)).outline();
    let second = traced(plan, &streams.interleaved(&mut random)).outline();
    if first == second {
        return Ok(());
    }
    let other: Vec<String> =
        first.symmetric_difference(&second).map(|(sources, said)| format!("{said} {sources:?}")).collect();
    Err(other.join("\n"))
}

#[test]
fn what_is_said_of_whole_traces_is_true() {
    holds(false, says_the_truth);
}

#[test]
fn what_is_said_of_traces_with_lost_records_is_true() {
    holds(true, says_the_truth);
}

#[test]
fn the_same_is_said_whosever_frames_come_first() {
    holds(false, says_the_same);
}
