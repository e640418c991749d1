//! Debian packages: what is to be had and installing it.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Result, bail};

use crate::{root, run};

/// Whether this machine has apt.
pub(crate) fn is_here() -> bool {
    run::find_program("apt-get").is_some()
}

/// Those of `packages` that apt could install or has installed.
pub(crate) fn available(packages: &[&str]) -> BTreeSet<String> {
    let policy = run::ask(Command::new("apt-cache").env("LC_ALL", "C").arg("policy").args(packages));
    policy.map(|text| with_candidate(&text)).unwrap_or_default()
}

/// Fetches the package lists: a fresh container has none.
pub(crate) fn update(why: &str) -> Result<()> {
    root::authenticate()?;
    run::step(&format!("apt-get update: {why}"), apt_get()?.arg("update"))
}

/// Installs those of `packages` that are missing; `why` says what they do for us.
pub(crate) fn install(packages: &[&str], why: &str) -> Result<()> {
    if !is_here() {
        bail!("there is no apt here, please install yourself {}: {why}", packages.join(" "));
    }
    let query = ["-W", "-f", "${Package} ${db:Status-Status}\\n"];
    let status = run::ask_whatever_its_status(Command::new("dpkg-query").args(query).args(packages));
    let packages = &missing(packages, &status)[..];
    if packages.is_empty() {
        return Ok(());
    }
    eprintln!("installing Debian packages {}: {why}", packages.join(" "));
    root::authenticate()?;
    let mut command = apt_get()?;
    command.args(["install", "--no-install-recommends"]).args(packages);
    let what = format!("apt-get install {}", packages.join(" "));
    run::step(&what, &mut command).or_else(|_| {
        // Lists that are out of date name packages that the mirror has replaced.
        update("the packages may have been replaced on the mirror")?;
        run::step(&what, &mut command)
    })
}

fn apt_get() -> Result<Command> {
    let mut command = root::command("env")?;
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-y", "-o", "DPkg::Lock::Timeout=120"]);
    Ok(command)
}

/// Those of `packages` that the output of `dpkg-query` does not call installed.
fn missing<'a>(packages: &[&'a str], status: &str) -> Vec<&'a str> {
    let installed: BTreeSet<&str> =
        status.lines().filter_map(|line| line.strip_suffix(" installed")).collect();
    packages.iter().copied().filter(|name| !installed.contains(name)).collect()
}

/// The packages with a candidate in the output of `apt-cache policy`.
fn with_candidate(policy: &str) -> BTreeSet<String> {
    let mut package = None;
    let mut found = BTreeSet::new();
    for line in policy.lines() {
        if let Some(name) = line.strip_suffix(':').filter(|name| !name.starts_with(' ')) {
            package = Some(name);
        } else if let (Some(candidate), Some(name)) = (line.trim().strip_prefix("Candidate: "), package)
            && candidate != "(none)"
        {
            found.insert(name.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_missing_packages_are_installed() {
        let status = "zlib1g-dev installed\nllvm-22-dev config-files\n";
        assert_eq!(missing(&["zlib1g-dev", "llvm-22-dev", "tcpdump"], status), ["llvm-22-dev", "tcpdump"]);
    }

    #[test]
    fn candidates_are_read_from_policy() {
        let policy = "\
llvm-22-dev:
  Installed: (none)
  Candidate: 1:22.1.8-1~deb12u1
  Version table:
     1:22.1.8-1~deb12u1 500
llvm-23-dev:
  Installed: (none)
  Candidate: (none)
  Version table:
";
        assert_eq!(with_candidate(policy), BTreeSet::from(["llvm-22-dev".to_owned()]));
        assert_eq!(with_candidate(""), BTreeSet::new());
    }
}
