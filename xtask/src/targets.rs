//! The workspace's packages, as cargo's metadata has them, and which of their tests run when.

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::build::host_cargo;
use crate::run;

/// The package whose test targets run podtrace on real packets, as root.
const ON_PACKETS: &str = "podtrace-tests";

/// Test targets that are run together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suites {
    /// Unit tests and the other packages' own test targets.
    Units,
    /// The test targets of [`ON_PACKETS`].
    OnPackets,
}

/// Arguments by which `cargo test` of all packages runs these, and compiles nothing another way than for the others.
pub(crate) fn tests(suites: Suites) -> Result<Vec<String>> {
    let mut arguments = match suites {
        Suites::Units => vec!["--lib".to_owned(), "--bins".to_owned()],
        Suites::OnPackets => Vec::new(),
    };
    for package in packages()? {
        if (package["name"] == ON_PACKETS) == (suites == Suites::OnPackets) {
            arguments.extend(test_targets(&package).flat_map(|name| ["--test".to_owned(), name]));
        }
    }
    Ok(arguments)
}

/// The workspace's packages as cargo describes them.
pub(crate) fn packages() -> Result<Vec<Value>> {
    let mut cargo = host_cargo("metadata");
    let json =
        run::ask(cargo.args(["--format-version", "1", "--no-deps"])).context("cargo tells no metadata")?;
    let mut metadata: Value = serde_json::from_str(&json).context("reading cargo's metadata")?;
    serde_json::from_value(metadata["packages"].take()).context("cargo's metadata have no packages")
}

/// Names of a package's test targets that run by default.
fn test_targets(package: &Value) -> impl Iterator<Item = String> {
    let targets = package["targets"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_test = |target: &&Value| target["kind"][0] == "test" && target["test"] == true;
    targets.iter().filter(is_test).filter_map(|target| target["name"].as_str().map(str::to_owned))
}
