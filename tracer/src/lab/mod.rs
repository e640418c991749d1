//! A small two-node pod network in network namespaces, wired as flannel and the CNI bridge plugin do it.
//!
//! What a lab consists of is data ([`plan`]); [`build`] makes it, [`check`] compares it with the kernel's tables,
//! [`remove`] takes it away. The inventory in its [`state`] directory is written last and removed first: where it
//! is, the lab was complete.

mod build;
mod check;
mod listen;
mod plan;
mod remove;
mod report;
mod rules;
mod services;
mod state;

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use self::plan::Plan;
pub use self::report::{Down, Status, Up};
pub use self::rules::RuleSet;
use self::state::Lock;
use crate::netns::{Netns, named_path};
use podtrace_protocol::inventory::Inventory;

/// Environment variable that names the lab.
pub const NAME_VARIABLE: &str = "PODTRACE_LAB";
/// Environment variable that says how the rules of its nodes are written.
pub const RULES_VARIABLE: &str = "PODTRACE_LAB_RULES";
/// Name of the lab where none is given.
pub const DEFAULT_NAME: &str = "lab";

/// How long bridge ports and links may take to come up; usually they need a few milliseconds.
const SETTLE: Duration = Duration::from_secs(5);
/// Pause between two looks at them.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// A lab, by its name; it may or may not be up.
#[derive(Clone, Debug)]
pub struct Lab {
    name: String,
    plan: Plan,
}

impl Lab {
    /// The lab of this name.
    ///
    /// # Errors
    /// If a path cannot be made of the name.
    pub fn named(name: &str) -> Result<Self> {
        let is_fit = (1..=40).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !name.starts_with('-');
        ensure!(
            is_fit,
            "`{}` is not a valid lab name: use up to 40 lower-case letters, digits and hyphens",
            name.escape_debug()
        );
        Ok(Self { name: name.to_owned(), plan: Plan::of(name) })
    }

    /// The lab that [`NAME_VARIABLE`] names, or the default one.
    ///
    /// # Errors
    /// If a path cannot be made of the name.
    pub fn from_environment() -> Result<Self> {
        match std::env::var(NAME_VARIABLE) {
            Ok(name) if !name.is_empty() => {
                Self::named(&name).with_context(|| format!("{NAME_VARIABLE} is not usable"))
            }
            Err(std::env::VarError::NotUnicode(_)) => bail!("{NAME_VARIABLE} is not usable: it is not UTF-8"),
            _ => Self::named(DEFAULT_NAME),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its inventory is when it is up.
    #[must_use]
    pub fn inventory_path(&self) -> PathBuf {
        state::inventory_path(&self.name)
    }

    /// Builds the lab, unless it stands already; one that is damaged, was left half-built or has other rules is removed
    /// first. Its nodes have the rules that are asked for, else those that can be had.
    ///
    /// # Errors
    /// If it cannot be built; nothing of it is left then.
    pub fn up(&self, rules: Option<RuleSet>) -> Result<Up> {
        self.demand_root("up")?;
        let began = Instant::now();
        let lock = Lock::take(&self.name)?;
        let stands = state::read_rules(&self.name);
        let mut problems = self.problems(lock.read_inventory().as_ref())?;
        if let (Some(stands), Some(wanted)) = (stands, rules)
            && stands != wanted
        {
            problems.push(format!("its rules are {stands}, not {wanted}"));
        }
        if let (Some(rules), true) = (stands, problems.is_empty()) {
            return Ok(Up {
                lab: self.name.clone(),
                rules,
                built: false,
                replaced: Vec::new(),
                took: began.elapsed(),
            });
        }
        let left = self.remains();
        let replaced = if left { problems } else { Vec::new() };
        self.remove(&lock).context("cannot remove the rest of an earlier lab")?;
        let rules = rules.unwrap_or_else(RuleSet::available);
        if let Err(error) = self.build(&lock, rules) {
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
        Ok(Up { lab: self.name.clone(), rules, built: true, replaced, took: began.elapsed() })
    }

    /// Removes the lab, processes that live in it included. It is no error if there is none.
    ///
    /// # Errors
    /// If something of it cannot be removed.
    pub fn down(&self) -> Result<Down> {
        self.demand_root("down")?;
        if !self.remains() && !state::directory(&self.name).exists() {
            return Ok(Down { lab: self.name.clone(), namespaces: 0, killed: 0 });
        }
        let lock = Lock::take(&self.name)?;
        let down = self.remove(&lock).with_context(|| format!("cannot remove the lab `{}`", self.name))?;
        lock.remove_directory()?;
        Ok(down)
    }

    /// Becomes this command, in the network namespace of a pod (`pod1`) or node (`node1`). Returns only if it
    /// cannot: the command's exit status is this process's.
    ///
    /// # Errors
    /// If the lab is not up, has no such pod or node, or the command cannot be executed.
    pub fn exec(&self, target: &str, command: &[OsString]) -> Result<Infallible> {
        let Some(netns) = self.plan.find(target) else {
            bail!(
                "the lab has no pod or node `{}`; there are {}",
                target.escape_debug(),
                self.plan.targets().join(", ")
            );
        };
        let Some((program, arguments)) = command.split_first() else {
            bail!("no command given to run in {}", target.escape_debug());
        };
        self.demand_root("exec")?;
        self.demand_up()?;
        // A thread of its own does it, so that ours is where it was if this fails.
        Netns::open(named_path(netns))?.run(|| {
            let error = Command::new(program).args(arguments).exec();
            Err(error).with_context(|| format!("cannot execute {program:?}"))
        })
    }

    /// What stands of the lab.
    ///
    /// # Errors
    /// If it cannot be looked at.
    pub fn status(&self) -> Result<Status> {
        let stands = self.remains() || self.inventory_path().exists();
        if !stands {
            return Ok(Status { lab: self.name.clone(), inventory: None, problems: Vec::new() });
        }
        self.demand_root("status")?;
        let problems = self.problems(state::read_inventory(&self.name).as_ref())?;
        let inventory = self.plan.inventory(self.rules());
        Ok(Status { lab: self.name.clone(), inventory: Some(inventory), problems })
    }

    /// Builds what is not there, waits until it is all as planned, and says so in the inventory.
    fn build(&self, lock: &Lock, rules: RuleSet) -> Result<()> {
        build::build(&self.plan)?;
        let services = rules != RuleSet::None;
        if services {
            rules::load(&self.plan, rules)?;
            listen::start(&self.plan)?;
        }
        let began = Instant::now();
        loop {
            // A link comes up a moment after it was told to.
            let problems = check::problems(&self.plan, services, &check::observe(&self.plan)?);
            if problems.is_empty() {
                break;
            }
            ensure!(began.elapsed() < SETTLE, "it did not come up as planned: {}", problems.join("; "));
            std::thread::sleep(LOOK_AGAIN);
        }
        lock.write_rules(rules)?;
        lock.write_inventory(&self.plan.inventory(rules))
    }

    /// Removes everything but the locked directory.
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
            problems.push(format!("{} is missing or was changed", self.inventory_path().display()));
        }
        Ok(problems)
    }

    /// The rules that its nodes have, as far as that is known.
    fn rules(&self) -> RuleSet {
        state::read_rules(&self.name).unwrap_or(RuleSet::None)
    }

    /// Serves in a pod of the lab: what its Services lead to. Ends only when it is killed.
    ///
    /// # Errors
    /// If it cannot.
    pub fn listen(pod: &str) -> Result<()> {
        listen::serve(pod)
    }

    /// Whether any of its namespaces, or a name without one, is there.
    fn remains(&self) -> bool {
        self.plan.namespaces().any(|name| named_path(name).exists())
    }

    fn is_up(&self) -> bool {
        self.inventory_path().exists()
            && self.plan.nodes.iter().all(|node| Netns::open(named_path(&node.netns)).is_ok())
    }

    fn demand_up(&self) -> Result<()> {
        let name = match self.name.as_str() {
            DEFAULT_NAME => String::new(),
            name => format!(" --name {name}"),
        };
        ensure!(self.is_up(), "the lab `{}` is not up: run `podtrace lab up{name}`", self.name);
        Ok(())
    }

    fn demand_root(&self, subcommand: &str) -> Result<()> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "`podtrace lab {subcommand}` needs root to manage network namespaces"
        );
        Ok(())
    }
}

/// The inventory of the lab that is up, the default one or the one that [`NAME_VARIABLE`] names.
#[must_use]
pub fn running() -> Option<PathBuf> {
    let lab = Lab::from_environment().ok()?;
    lab.is_up().then(|| lab.inventory_path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_paths_and_nothing_else() {
        for name in ["lab", "test-1234", "0"] {
            assert_eq!(Lab::named(name).unwrap().name(), name);
        }
        for name in ["", "-x", "a/b", "..", "Lab", "a b", "\u{1b}[31m", &"x".repeat(41)] {
            let error = Lab::named(name).unwrap_err().to_string();
            assert!(error.contains("is not a valid lab name") && !error.contains('\u{1b}'), "{error}");
        }
    }

    #[test]
    fn an_unknown_pod_is_told_with_those_there_are() {
        let lab = Lab::named("absent").unwrap();
        let error = lab.exec("pod9\u{7}", &["true".into()]).unwrap_err().to_string();
        assert_eq!(
            error,
            "the lab has no pod or node `pod9\\u{7}`; there are pod1, pod2, pod3, pod4, node1, node2, \
             world"
        );
    }
}
