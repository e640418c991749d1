//! The lab: a small pod network with two nodes in network namespaces, wired as one of several CNI plugins does it.
//!
//! A [`network`] describes the wiring, from which the lab is planned ([`plan`]). [`build`] creates it, [`check`] compares it with the kernel's tables, [`remove`] deletes it.
//! The inventory in its [`state`] directory is written last and deleted first, so if it exists the lab was complete.

mod build;
mod check;
mod listen;
mod network;
mod plan;
mod remove;
mod report;
mod rules;
mod services;
mod state;

use std::convert::Infallible;
use std::ffi::OsString;
use std::net::IpAddr;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

pub use self::network::Network;
use self::plan::Plan;
pub use self::report::{Down, Networks, Status, Up};
pub use self::rules::RuleSet;
use self::state::Lock;
use crate::netns::{Netns, named_path};
use podtrace_protocol::inventory::Inventory;

/// Environment variable with the name of the lab.
pub const NAME_VARIABLE: &str = "PODTRACE_LAB";
/// Environment variable with the kind of its nodes' rules.
pub const RULES_VARIABLE: &str = "PODTRACE_LAB_RULES";
/// Environment variable with its network.
pub const NETWORK_VARIABLE: &str = "PODTRACE_LAB_NETWORK";
/// The default name.
pub const DEFAULT_NAME: &str = "lab";

/// Time limit for bridge ports and links to come up, which usually takes a few milliseconds.
const SETTLE: Duration = Duration::from_secs(5);
/// Time between two checks.
const CHECK_EVERY: Duration = Duration::from_millis(2);

/// A lab by its name. It may be up or not.
#[derive(Clone, Debug)]
pub struct Lab {
    name: String,
    plan: Plan,
}

impl Lab {
    /// The lab with a name, with the network that it has.
    ///
    /// # Errors
    ///
    /// If the name is not valid as part of a path.
    pub fn named(name: &str) -> Result<Self> {
        let is_valid = (1..=40).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !name.starts_with('-');
        ensure!(
            is_valid,
            "`{}` is not a valid lab name: use up to 40 lower-case letters, digits and hyphens",
            name.escape_debug()
        );
        Self::planned(name, state::read_network(name).unwrap_or_default())
    }

    fn planned(name: &str, network: Network) -> Result<Self> {
        Ok(Self { name: name.to_owned(), plan: Plan::of(name, network)? })
    }

    /// The lab named by [`NAME_VARIABLE`], or the default one.
    ///
    /// # Errors
    ///
    /// If the name is not valid as part of a path.
    pub fn from_environment() -> Result<Self> {
        match std::env::var(NAME_VARIABLE) {
            Ok(name) if !name.is_empty() => {
                Self::named(&name).with_context(|| format!("invalid {NAME_VARIABLE}"))
            }
            Err(std::env::VarError::NotUnicode(_)) => bail!("invalid {NAME_VARIABLE}: it is not UTF-8"),
            _ => Self::named(DEFAULT_NAME),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Path of its inventory, which exists while it is up.
    #[must_use]
    pub fn inventory_path(&self) -> PathBuf {
        state::inventory_path(&self.name)
    }

    /// Builds the lab unless it is up already. A lab that is damaged, incomplete, or has another network or other rules is
    /// removed first. Without `network`, one that is there keeps its own. Without `rules`, its nodes get those whose program
    /// is installed.
    ///
    /// # Errors
    ///
    /// If it cannot be built; everything built is then removed again.
    pub fn up(&self, network: Option<Network>, rules: Option<RuleSet>) -> Result<Up> {
        self.ensure_root("up")?;
        let began = Instant::now();
        let lock = Lock::take(&self.name)?;
        let current = state::read_rules(&self.name);
        let mut problems = self.problems(lock.read_inventory().as_ref())?;
        if let (Some(current), Some(wanted)) = (current, rules)
            && current != wanted
        {
            problems.push(format!("its rules are {current}, not {wanted}"));
        }
        let (has, network) = (self.plan.network, network.unwrap_or(self.plan.network));
        if has != network {
            problems.push(format!("its network is {has}, not {network}"));
        }
        let up = |rules, built, replaced| Up {
            lab: self.name.clone(),
            network,
            rules,
            built,
            replaced,
            took: began.elapsed(),
        };
        if let (Some(rules), true) = (current, problems.is_empty()) {
            return Ok(up(rules, false, Vec::new()));
        }
        let left = self.remains();
        let replaced = if left { problems } else { Vec::new() };
        self.remove(&lock).context("cannot remove the rest of an earlier lab")?;
        let rules = rules.unwrap_or_else(RuleSet::available);
        if let Err(error) = Self::planned(&self.name, network)?.build(&lock, rules) {
            let removed = self.remove(&lock).and_then(|_| lock.remove_directory());
            let context = match removed {
                Ok(()) => format!("cannot build the lab `{}`; it was removed again", self.name),
                Err(left) => {
                    format!(
                        "cannot build the lab `{}`, and cannot remove what was built ({left:#})",
                        self.name
                    )
                }
            };
            return Err(error.context(context));
        }
        Ok(up(rules, true, replaced))
    }

    /// Removes the lab and ends the processes in it. It is no error if there is no lab.
    ///
    /// # Errors
    ///
    /// If a part of it cannot be removed.
    pub fn down(&self) -> Result<Down> {
        self.ensure_root("down")?;
        if !self.remains() && !state::directory(&self.name).exists() {
            return Ok(Down { lab: self.name.clone(), namespaces: 0, killed: 0 });
        }
        let lock = Lock::take(&self.name)?;
        let down = self.remove(&lock).with_context(|| format!("cannot remove the lab `{}`", self.name))?;
        lock.remove_directory()?;
        Ok(down)
    }

    /// Replaces this process by a command in the network namespace of a pod (`pod1`) or node (`node1`). Returns only if that
    /// fails.
    ///
    /// # Errors
    ///
    /// If the lab is not up, has no such pod or node, or the command cannot be executed.
    pub fn exec(&self, target: &str, command: &[OsString]) -> Result<Infallible> {
        let Some(netns) = self.plan.find(target) else {
            bail!(
                "the lab has no pod or node `{}`; it has {}",
                target.escape_debug(),
                self.plan.targets().join(", ")
            );
        };
        let Some((program, arguments)) = command.split_first() else {
            bail!("no command given to run in {}", target.escape_debug());
        };
        self.ensure_root("exec")?;
        self.ensure_up()?;
        // In a thread, so that this one stays in its namespace if this fails.
        Netns::open(named_path(netns))?.run(|| {
            let error = Command::new(program).args(arguments).exec();
            Err(error).with_context(|| format!("cannot execute {program:?}"))
        })
    }

    /// The state of the lab.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn status(&self) -> Result<Status> {
        let exists = self.remains() || self.inventory_path().exists();
        if !exists {
            let (lab, network) = (self.name.clone(), self.plan.network);
            return Ok(Status { lab, network, inventory: None, problems: Vec::new() });
        }
        self.ensure_root("status")?;
        let problems = self.problems(state::read_inventory(&self.name).as_ref())?;
        let inventory = self.plan.inventory(self.rules());
        let (lab, network) = (self.name.clone(), self.plan.network);
        Ok(Status { lab, network, inventory: Some(inventory), problems })
    }

    /// Builds everything, waits until it is as planned, and writes the inventory.
    fn build(&self, lock: &Lock, rules: RuleSet) -> Result<()> {
        build::build(&self.plan)?;
        let services = rules != RuleSet::None;
        if services {
            rules::load(&self.plan, rules)?;
            listen::start(&self.plan)?;
        }
        let began = Instant::now();
        loop {
            // Links come up with a short delay.
            let problems = check::problems(&self.plan, services, &check::observe(&self.plan)?);
            if problems.is_empty() {
                break;
            }
            ensure!(began.elapsed() < SETTLE, "it did not come up as planned: {}", problems.join("; "));
            std::thread::sleep(CHECK_EVERY);
        }
        lock.write_kinds(self.plan.network, rules)?;
        lock.write_inventory(&self.plan.inventory(rules))
    }

    /// Removes everything except the locked directory.
    fn remove(&self, lock: &Lock) -> Result<Down> {
        lock.remove_inventory()?;
        let remove::Removed { namespaces, killed } = remove::remove(&self.plan)?;
        Ok(Down { lab: self.name.clone(), namespaces, killed })
    }

    fn problems(&self, inventory: Option<&Inventory>) -> Result<Vec<String>> {
        let rules = self.rules();
        let services = rules != RuleSet::None;
        let mut problems = check::problems(&self.plan, services, &check::observe(&self.plan)?);
        if inventory != Some(&self.plan.inventory(rules)) {
            problems.push(format!("{} is missing or has changed", self.inventory_path().display()));
        }
        Ok(problems)
    }

    /// The kind of its nodes' rules.
    fn rules(&self) -> RuleSet {
        state::read_rules(&self.name).unwrap_or(RuleSet::None)
    }

    /// Runs the server behind the lab's Services in a pod, at an address, until it is killed.
    ///
    /// # Errors
    ///
    /// If its ports are taken.
    pub fn listen(pod: &str, address: IpAddr) -> Result<()> {
        listen::serve(pod, address)
    }

    /// Whether any name of its namespaces exists.
    fn remains(&self) -> bool {
        self.plan.namespaces().any(|name| named_path(name).exists())
    }

    fn is_up(&self) -> bool {
        self.inventory_path().exists()
            && self.plan.nodes.iter().all(|node| Netns::open(named_path(&node.host.netns)).is_ok())
    }

    fn ensure_up(&self) -> Result<()> {
        let name = match self.name.as_str() {
            DEFAULT_NAME => String::new(),
            name => format!(" --name {name}"),
        };
        ensure!(self.is_up(), "the lab `{}` is not up: run `podtrace lab up{name}`", self.name);
        Ok(())
    }

    fn ensure_root(&self, subcommand: &str) -> Result<()> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "`podtrace lab {subcommand}` needs root to manage network namespaces"
        );
        Ok(())
    }
}

/// The networks that a lab can have.
///
/// # Errors
///
/// None in practice: every description is read by a test.
pub fn networks() -> Result<Networks> {
    let described = Network::all().map(|network| {
        let network::Description { about, follows, .. } = network.description()?;
        Ok((network, about, follows))
    });
    described.collect::<Result<_>>().map(Networks)
}

/// The inventory of the running lab: the one named by [`NAME_VARIABLE`], or the default one.
#[must_use]
pub fn running() -> Option<PathBuf> {
    let lab = Lab::from_environment().ok()?;
    lab.is_up().then(|| lab.inventory_path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_safe_names_are_valid() {
        for name in ["lab", "test-1234", "0"] {
            assert_eq!(Lab::named(name).unwrap().name(), name);
        }
        for name in ["", "-x", "a/b", "..", "Lab", "a b", "\u{1b}[31m", &"x".repeat(41)] {
            let error = Lab::named(name).unwrap_err().to_string();
            assert!(error.contains("is not a valid lab name") && !error.contains('\u{1b}'), "{error}");
        }
    }

    #[test]
    fn an_unknown_pod_is_an_error_that_lists_the_pods() {
        let lab = Lab::named("absent").unwrap();
        let error = lab.exec("pod9\u{7}", &["true".into()]).unwrap_err().to_string();
        assert_eq!(
            error,
            "the lab has no pod or node `pod9\\u{7}`; it has pod1, pod2, pod3, pod4, node1, node2, \
             world"
        );
    }
}
