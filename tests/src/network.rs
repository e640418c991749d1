//! The scenarios of `networks/scenarios` on every network of `networks`: `networks/README.md` shows the format.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use crate::scenario::Scenario;

/// What the scenarios have to know of a network.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Network {
    /// What stands for `$NAME` in scenarios.
    variables: BTreeMap<String, String>,
    /// The hops of a way, which stand for `$hops.NAME`.
    hops: BTreeMap<String, Vec<String>>,
    /// Scenarios that cannot be on this network, and why.
    #[serde(default)]
    without: BTreeMap<String, String>,
}

/// A scenario on a network.
#[derive(Debug)]
pub struct Case {
    /// Name of the network.
    pub network: String,
    /// Name of the scenario.
    pub name: String,
    /// The scenario, or why it cannot be.
    pub scenario: Result<Scenario, String>,
}

/// The directory of the networks.
fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("networks")
}

/// All scenarios on all networks, in the order of their names, and each scenario's sentence.
///
/// # Errors
///
/// If one cannot be read.
pub fn cases() -> Result<(Vec<Case>, BTreeMap<String, String>)> {
    let directory = directory();
    let scenarios = files(&directory.join("scenarios"))?;
    let mut cases = Vec::new();
    let mut about = BTreeMap::new();
    for (network, text) in files(&directory)? {
        let about_it = || format!("the network {network}");
        let known: Network = serde_saphyr::from_str(&text).with_context(about_it)?;
        for (name, text) in &scenarios {
            let scenario = match known.without.get(name) {
                Some(why) => Err(why.clone()),
                None => {
                    let scenario = known.scenario(&network, text);
                    Ok(scenario.with_context(|| format!("the scenario {name} on {network}"))?)
                }
            };
            if let Ok(scenario) = &scenario {
                about.insert(name.clone(), scenario.about.clone());
            }
            cases.push(Case { network: network.clone(), name: name.clone(), scenario });
        }
    }
    ensure!(!cases.is_empty(), "there are no networks in {}", directory.display());
    Ok((cases, about))
}

impl Network {
    fn scenario(&self, network: &str, text: &str) -> Result<Scenario> {
        let mut names: Vec<(String, String)> = vec![("$network".to_owned(), network.to_owned())];
        names.extend(self.variables.iter().map(|(name, value)| (format!("${name}"), value.clone())));
        for (name, hops) in &self.hops {
            names.push((format!("$hops.{name}"), serde_json::to_string(hops)?));
        }
        // The longest first: `$pod` must not be found in `$pod2`.
        names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        let filled =
            names.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name.as_str(), value));
        if let Some((_, rest)) = filled.split_once('$') {
            bail!("it does not know ${}", rest.lines().next().unwrap_or_default());
        }
        Scenario::parse(&filled)
    }
}

/// Names and contents of the YAML files in a directory, in the order of the names.
fn files(directory: &Path) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    let about = || format!("reading {}", directory.display());
    for entry in directory.read_dir().with_context(about)? {
        let path = entry.with_context(about)?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let text =
                std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            files.insert(name, text);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_network_of_the_lab_has_every_scenario_or_says_why_not() {
        let (cases, about) = cases().unwrap();
        for network in podtrace::lab::Network::all() {
            let of_it = cases.iter().filter(|case| case.network == network.name());
            assert_eq!(of_it.count(), about.len(), "{network}");
        }
    }
}
