//! Bad input: one clear line on stderr, the right exit status, and no remains.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use podtrace_tests::attached;
use podtrace_tests::command::{SHORT, run};
use podtrace_tests::lab::{Lab, podtrace};
use podtrace_tests::suite::trial;
use podtrace_tests::{binary, expect};
use serde::Deserialize;

/// The table of errors.
const TABLE: &str = include_str!("refusals.yaml");

/// One case of the table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Refusal {
    name: String,
    /// Arguments; `DIR` is a directory made for it.
    run: String,
    /// 1: could not run. 2: wrong usage.
    status: i32,
    /// The line on stderr, `*` for anything.
    says: String,
    /// Content of DIR/cluster.yaml, named to podtrace by --cluster. Without it the lab's is.
    #[serde(default)]
    inventory: Option<String>,
    /// Content of DIR/file.
    #[serde(default)]
    file: Option<String>,
    /// Environment variables.
    #[serde(default)]
    env: Vec<(String, String)>,
    /// As a user without rights.
    #[serde(default)]
    nobody: bool,
    /// No lab, and no --cluster either.
    #[serde(default)]
    no_cluster: bool,
}

pub(crate) fn trials() -> Vec<Trial> {
    let table: Vec<Refusal> = match serde_saphyr::from_str(TABLE) {
        Ok(table) => table,
        Err(error) => return vec![Trial::test("refusals", move || Err(error.to_string().into()))],
    };
    table
        .into_iter()
        .map(|refusal| {
            let needs: &[&str] = if refusal.nobody { &["setpriv"] } else { &[] };
            trial(format!("refuses-{}", refusal.name), needs, move || refusal.check())
        })
        .chain([trial("an-agents-pod-runs-nothing-but-agents", &[""; 0], only_agents)])
        .collect()
}

/// Where the environment is that of an agent's pod, nothing reads or writes files or runs a command.
fn only_agents() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let place = directory.path().to_str().context("the directory's name")?;
    let secret = format!("{place}/secret");
    fs::write(&secret, "secret")?;
    for words in [
        format!("read {secret}"),
        format!("topology --cluster {secret}"),
        format!("--from pod1 --cluster {secret} -w {place}/written"),
        "lab up".to_owned(),
        "lab exec pod1 -- id".to_owned(),
        "manifest".to_owned(),
    ] {
        let mut command = podtrace(&binary::podtrace()?);
        command.env("PODTRACE_AGENT_ONLY", "1").args(words.split(' '));
        let output = run(&mut command, SHORT)?;
        ensure!(output.code() == 1 && output.stdout.is_empty(), "{words}: {}", output.stdout);
        ensure!(output.stderr.contains("only `podtrace agent` runs in an agent's pod"), "{}", output.stderr);
        ensure!(!output.stderr.contains("secret\n"), "{}", output.stderr);
    }
    ensure!(fs::read_dir(place)?.count() == 1, "a file was written");
    // An agent runs: without a tracer, it ends.
    let mut command = podtrace(&binary::podtrace()?);
    command.env("PODTRACE_AGENT_ONLY", "1").arg("agent").stdin(std::process::Stdio::null());
    let output = run(&mut command, SHORT)?;
    ensure!(!output.stderr.contains("only `podtrace agent`"), "{}", output.stderr);
    Ok(())
}

impl Refusal {
    fn check(&self) -> Result<()> {
        let directory = tempfile::tempdir()?;
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        let place = directory.path().to_str().context("the directory's name")?;
        if let Some(file) = &self.file {
            fs::write(directory.path().join("file"), file)?;
        }
        let lab = if self.no_cluster { None } else { Some(Lab::up(&self.name)?) };
        let mut command = self.command(directory.path())?;
        if let Some(lab) = &lab
            && !self.run.starts_with("read")
            && !self.run.starts_with("lab")
        {
            let inventory = match &self.inventory {
                None => lab.inventory(),
                Some(text) => {
                    let path = directory.path().join("cluster.yaml");
                    fs::write(&path, text)?;
                    path
                }
            };
            command.arg("--cluster").arg(inventory);
        }
        let name = lab.as_ref().map_or("t-there-is-none", |lab| lab.name());
        command.env("PODTRACE_LAB", name).envs(self.env.iter().cloned());
        command.args(self.run.split_whitespace().map(|word| word.replace("DIR", place)));
        let output = run(&mut command, SHORT)?;
        let finished =
            format!("{command:?} ended with {} and said:\n{}{}", output.code(), output.stdout, output.stderr);
        ensure!(output.code() == self.status, "status {} was expected; {finished}", self.status);
        ensure!(output.stdout.is_empty(), "nothing was expected on stdout; {finished}");
        let says = format!("podtrace: {}", self.says.replace("DIR", place));
        let line =
            output.stderr.strip_suffix('\n').with_context(|| format!("no line on stderr; {finished}"))?;
        ensure!(!line.contains('\n'), "one line was expected; {finished}");
        ensure!(expect::fits(&says, line), "`{says}` was expected; {finished}");
        if let Some(lab) = &lab {
            ensure!(attached::tcx(lab)?.is_empty(), "something is left attached");
            ensure!(attached::agents(lab)?.is_empty(), "an agent is left");
        }
        Ok(())
    }

    fn command(&self, directory: &Path) -> Result<Command> {
        let binary = binary::podtrace()?;
        if !self.nobody {
            return Ok(podtrace(&binary));
        }
        // A checkout may be where only its owner gets to.
        let own = directory.join("podtrace");
        binary::copy_to(&own)?;
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--inh-caps=-all",
            "--no-new-privs",
        ]);
        command.arg(own).env("HOME", "/nonexistent").env_remove("KUBECONFIG").env_remove("SUDO_USER");
        Ok(command)
    }
}
