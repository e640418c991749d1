//! `podtrace doctor` over the fault suite: of each kind that a standing look can find, the first variant; and healthy labs,
//! in which nothing is wrong.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use podtrace_tests::fault::{data, doctor};
use podtrace_tests::lab::Lab;
use podtrace_tests::{need, suite};

/// Networks that the lab can be wired as: what `podtrace lab networks` lists.
const NETWORKS: [&str; 7] = [
    "flannel-vxlan",
    "flannel-host-gw",
    "flannel-dual-stack",
    "flannel-ipv6",
    "calico-bgp",
    "calico-vxlan",
    "kindnet",
];

fn main() -> ExitCode {
    suite::run_if(trials())
}

fn trials() -> Result<Vec<Trial>> {
    let mut trials = Vec::new();
    let mut before = String::new();
    for variant in data::variants()? {
        let looked_at = variant.what.doctor.is_some() || variant.what.healthy;
        // One that breaks something else than its kind has an answer of its own only in a trace.
        if variant.kind == before || !looked_at {
            continue;
        }
        before.clone_from(&variant.kind);
        let missing = variant.what.guests.clone().or_else(|| need::missing(&variant.what.needs));
        let variant = Arc::new(variant);
        trials.push(suite::unless(missing, variant.name.clone(), move || {
            doctor::check(&variant, env!("CARGO_BIN_EXE_traffic"))
        }));
    }
    for rules in ["none", "nft", "iptables"] {
        for network in NETWORKS {
            let programs: &[&str] = if rules == "none" { &[] } else { &[rules] };
            let name = format!("healthy-{network}-{rules}");
            trials.push(suite::trial(name, programs, move || healthy(network, rules)));
        }
    }
    Ok(trials)
}

/// Nothing above a note is found.
fn healthy(network: &str, rules: &str) -> Result<()> {
    let lab = Lab::on("healthy", network, rules)?;
    let looked = doctor::look(&lab)?;
    ensure!(looked.code == 0, "{looked:?}");
    Ok(())
}
