//! Debian packages of other releases, through an apt of our own: its sources and lists are in podtrace's cache, and
//! the machine's are left as they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::run;

/// Keyring of the package `debian-archive-keyring`.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Debian's name of the processor whose packages are taken unless another is given: guests and clusters run on no other.
const HERE: &str = "amd64";

/// One of Debian's two archives.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repository {
    Main,
    Security,
}

/// apt with our own sources.
pub(crate) struct PrivateApt {
    directory: PathBuf,
}

impl PrivateApt {
    /// Sets it up in `directory`, with these suites.
    pub(crate) fn open<'a>(
        directory: PathBuf,
        suites: impl IntoIterator<Item = (Repository, &'a str)>,
    ) -> Result<Self> {
        Self::with(directory, suites, HERE, false)
    }

    /// Sets it up for the packages of another processor than this machine's.
    pub(crate) fn open_for<'a>(
        architecture: &str,
        directory: PathBuf,
        suites: impl IntoIterator<Item = (Repository, &'a str)>,
    ) -> Result<Self> {
        Self::with(directory, suites, architecture, false)
    }

    /// Sets it up in `directory`, with these suites and their source packages.
    pub(crate) fn open_with_sources<'a>(
        directory: PathBuf,
        suites: impl IntoIterator<Item = (Repository, &'a str)>,
    ) -> Result<Self> {
        Self::with(directory, suites, HERE, true)
    }

    fn with<'a>(
        directory: PathBuf,
        suites: impl IntoIterator<Item = (Repository, &'a str)>,
        architecture: &str,
        source_packages: bool,
    ) -> Result<Self> {
        ensure!(
            run::find_program("apt-get").is_some(),
            "there is no apt here to fetch Debian's packages with"
        );
        ensure!(
            Path::new(KEYRING).is_file(),
            "{KEYRING} is missing: the package debian-archive-keyring has it"
        );
        for part in ["lists/partial", "cache/archives/partial"] {
            let part = directory.join(part);
            fs::create_dir_all(&part).with_context(|| format!("cannot create {}", part.display()))?;
        }
        let apt = Self { directory };
        let mirrors = Mirrors::of_this_machine();
        let mut sources = String::new();
        for (repository, suite) in suites {
            let mirror = mirrors.of(repository);
            sources += &format!("deb [arch={architecture} signed-by={KEYRING}] {mirror} {suite} main\n");
            if source_packages {
                sources += &format!("deb-src [signed-by={KEYRING}] {mirror} {suite} main\n");
            }
        }
        apt.write("sources.list", &sources)?;
        apt.write("apt.conf", &apt.settings(architecture))?;
        Ok(apt)
    }

    /// Fetches the package lists. `what` says of what.
    pub(crate) fn update(&self, what: &str) -> Result<()> {
        run::step(
            &format!("fetching the package lists of {what}"),
            self.command("apt-get").args(["-q", "update"]),
        )
    }

    /// Downloads packages into `directory`.
    pub(crate) fn download(
        &self,
        what: &str,
        packages: &[impl AsRef<std::ffi::OsStr>],
        directory: &Path,
    ) -> Result<()> {
        Self::fetch(what, self.command("apt-get").args(["-q", "download"]).args(packages), directory)
    }

    /// Downloads a source package into `directory`.
    pub(crate) fn download_source(&self, what: &str, package: &str, directory: &Path) -> Result<()> {
        let mut command = self.command("apt-get");
        Self::fetch(what, command.args(["-q", "source", "--download-only", package]), directory)
    }

    fn fetch(what: &str, command: &mut Command, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
        run::step(&format!("fetching {what}"), command.current_dir(directory))
    }

    /// The variable that has any apt command use our sources.
    pub(crate) fn variable(&self) -> (&'static str, PathBuf) {
        ("APT_CONFIG", self.directory.join("apt.conf"))
    }

    /// A command of apt's that knows of no installed package, so that it judges none.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.envs([self.variable()]).env("LC_ALL", "C").args(["-o", "Dir::State::Status=/dev/null"]);
        command
    }

    fn settings(&self, architecture: &str) -> String {
        let directory = self.directory.display();
        // Otherwise apt would add what this machine's dpkg knows.
        let architectures = if architecture == HERE {
            String::new()
        } else {
            format!("APT::Architecture \"{architecture}\";\nAPT::Architectures {{ \"{architecture}\"; }};\n")
        };
        architectures
            + &format!(
                "Dir::Etc::SourceList \"{directory}/sources.list\";\n\
             Dir::Etc::SourceParts \"/dev/null\";\n\
             Dir::Etc::Preferences \"/dev/null\";\n\
             Dir::Etc::PreferencesParts \"/dev/null\";\n\
             Dir::State::Lists \"{directory}/lists\";\n\
             Dir::Cache \"{directory}/cache\";\n\
             Acquire::Languages \"none\";\n\
             Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n\
             Acquire::Retries \"3\";\n\
             APT::Sandbox::User \"root\";\n"
            )
    }

    fn write(&self, name: &str, content: &str) -> Result<()> {
        let path = self.directory.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Where this machine's own apt finds Debian.
struct Mirrors {
    main: String,
    security: String,
}

impl Mirrors {
    /// The mirrors that this machine uses, else what Debian's installer would write.
    fn of_this_machine() -> Self {
        let mut command = Command::new("apt-get");
        command.args(["indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Created-By: Packages"]);
        let targets = run::ask(&mut command).unwrap_or_default();
        Self::from_targets(&targets, debian_release().as_deref())
    }

    fn from_targets(targets: &str, release: Option<&str>) -> Self {
        let find = |suite: Option<String>| {
            let mut targets = targets.lines().filter_map(|line| line.split_once(' '));
            targets.find(|(of, _)| Some(*of) == suite.as_deref()).map(|(_, uri)| uri.to_owned())
        };
        let security = find(release.map(|release| format!("{release}-security")));
        Self {
            main: find(release.map(str::to_owned))
                .unwrap_or_else(|| "http://deb.debian.org/debian".to_owned()),
            security: security.unwrap_or_else(|| "http://deb.debian.org/debian-security".to_owned()),
        }
    }

    fn of(&self, repository: Repository) -> &str {
        match repository {
            Repository::Main => &self.main,
            Repository::Security => &self.security,
        }
    }
}

/// Code name of the Debian that runs here.
pub(crate) fn debian_release() -> Option<String> {
    let text = fs::read_to_string("/etc/os-release").ok()?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
        Some(line.trim_matches('"').to_owned())
    };
    (field("ID")? == "debian").then(|| field("VERSION_CODENAME"))?
}

/// Unpacks a downloaded package.
pub(crate) fn unpack(package: &Path, into: &Path) -> Result<()> {
    let output = Command::new("dpkg").arg("-x").args([package, into]).output().context("cannot run dpkg")?;
    if !output.status.success() {
        bail!("cannot unpack {}: {}", package.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_are_those_of_the_machine() {
        let targets = "nodistro https://elsewhere.example/\nbookworm http://mirror.example/debian/\n\
                       bookworm-updates http://mirror.example/debian/\n\
                       bookworm-security http://security.example/debian-security/\n";
        let mirrors = Mirrors::from_targets(targets, Some("bookworm"));
        assert_eq!(mirrors.main, "http://mirror.example/debian/");
        assert_eq!(mirrors.security, "http://security.example/debian-security/");
        assert_eq!(Mirrors::from_targets(targets, None).main, "http://deb.debian.org/debian");
    }
}
