//! podtrace on a real Kubernetes: `cargo xtask k8s test` makes one and says where it is, `KUBECONFIG` leads to any other.

mod any;
mod changes;
mod failures;
mod own_pods;
mod paths;
mod rights;
mod scale;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use libtest_mimic::Trial;
use podtrace_tests::cluster::Cluster;
use podtrace_tests::{need, suite};

fn main() -> ExitCode {
    let cluster = match Cluster::of_environment() {
        Ok(cluster) => Arc::new(cluster),
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::FAILURE;
        }
    };
    let mut trials = Vec::new();
    trials.extend(any::trials(&cluster));
    trials.extend(own_pods::trials(&cluster));
    trials.extend(paths::trials(&cluster));
    trials.extend(changes::trials(&cluster));
    trials.extend(rights::trials(&cluster));
    trials.extend(failures::trials(&cluster));
    trials.extend(own_pods::late_trials(&cluster));
    trials.extend(scale::trials(&cluster));
    suite::run_in_order(trials)
}

/// A test that does to a cluster what only our own lets be done to it.
fn own(cluster: &Arc<Cluster>, name: &str, test: fn(&Cluster) -> Result<()>) -> Trial {
    let missing = (!cluster.is_own()).then(|| "needs the cluster of `cargo xtask k8s up`".to_owned());
    let missing = need::missing(&["nsenter", "setpriv"]).or(missing);
    let cluster = Arc::clone(cluster);
    suite::unless(missing, name, move || test(&cluster))
}
