//! A real Kubernetes cluster: the one that `cargo xtask k8s up` creates, which tests may break, or any other in
//! `KUBECONFIG`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use podtrace::netns::Netns;
use serde::Deserialize;

use crate::command::{Output, Running, SHORT, run, succeed};
use crate::{attached, binary, wait};

/// Environment variable with the directory of the cluster of `cargo xtask k8s up`.
pub const STATE: &str = "PODTRACE_K8S";

/// Environment variable with the kubeconfig of any other cluster.
pub const KUBECONFIG: &str = "KUBECONFIG";

/// Prefix of the cluster's network namespaces.
const NAMESPACES: &str = "/run/netns/k8s-podtrace-";

/// A user without privileges on this machine.
const NOBODY: u32 = 65_534;

/// Time limit for what the cluster does by itself.
pub const SETTLED: Duration = Duration::from_secs(60);

/// The user of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// A user with the roles of `podtrace manifest`.
    User,
    /// The administrator.
    Admin,
}

/// A cluster, and a user of this machine with a kubeconfig and without privileges.
#[derive(Debug)]
pub struct Cluster {
    own: Option<PathBuf>,
    admin: PathBuf,
    /// The user's.
    directory: tempfile::TempDir,
}

impl Cluster {
    /// The cluster in the environment.
    ///
    /// # Errors
    ///
    /// If it names none.
    pub fn of_environment() -> Result<Self> {
        let own = std::env::var_os(STATE).map(PathBuf::from);
        let admin = match (&own, std::env::var_os(KUBECONFIG)) {
            (Some(state), _) => state.join("admin.kubeconfig"),
            (None, Some(kubeconfig)) => kubeconfig.into(),
            (None, None) => bail!(
                "neither {STATE} nor {KUBECONFIG} names a cluster: `cargo xtask k8s test` makes one for the tests"
            ),
        };
        // Not where only root gets to, as the binary may be.
        let permissions = fs::Permissions::from_mode(0o755);
        let directory = tempfile::Builder::new().permissions(permissions).tempdir()?;
        binary::copy_to(&directory.path().join("podtrace"))?;
        let cluster = Self { own, admin, directory };
        cluster.lend(&cluster.admin, Who::Admin)?;
        if let Some(state) = &cluster.own {
            cluster.lend(&state.join("tracer-user.kubeconfig"), Who::User)?;
        }
        Ok(cluster)
    }

    /// Installs a kubeconfig for the user of this machine.
    fn lend(&self, kubeconfig: &Path, who: Who) -> Result<()> {
        let to = self.kubeconfig(who);
        fs::copy(kubeconfig, &to).with_context(|| format!("copying {}", kubeconfig.display()))?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o600))?;
        chown(&to, Some(NOBODY), Some(NOBODY)).with_context(|| format!("giving {} away", to.display()))
    }

    fn kubeconfig(&self, who: Who) -> PathBuf {
        self.directory.path().join(match who {
            Who::User => "user.kubeconfig",
            Who::Admin => "admin.kubeconfig",
        })
    }

    /// Whether it is the cluster of `cargo xtask k8s up`.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// podtrace, run by the user without privileges; on the laptop if there is one.
    pub fn podtrace<S: AsRef<OsStr>>(&self, who: Who, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.on_laptop("setpriv");
        let nobody = NOBODY.to_string();
        command.args([format!("--reuid={nobody}"), format!("--regid={nobody}"), "--clear-groups".to_owned()]);
        command.arg(self.directory.path().join("podtrace")).args(arguments);
        command.arg("--kubeconfig").arg(self.kubeconfig(who));
        command.env("HOME", "/nonexistent").env("NO_COLOR", "1");
        for variable in [KUBECONFIG, "SUDO_USER", "PODTRACE_LAB"] {
            command.env_remove(variable);
        }
        command
    }

    /// A command on the laptop if there is one, otherwise on this machine.
    pub fn on_laptop(&self, program: &str) -> Command {
        if self.is_own() { Self::at("laptop", [program]) } else { Command::new(program) }
    }

    /// A command at a place on the wire of our own cluster.
    pub fn at<S: AsRef<OsStr>>(place: &str, words: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={NAMESPACES}{place}")).arg("--").args(words);
        command
    }

    /// A command of kubectl's, as the administrator.
    pub fn kubectl<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        let mut command = match &self.own {
            Some(state) => Self::at("laptop", [state.join("kubectl")]),
            None => Command::new("kubectl"),
        };
        command.arg("--kubeconfig").arg(&self.admin).args(words);
        command
    }

    /// Runs kubectl, which must succeed.
    ///
    /// # Errors
    ///
    /// If it does not.
    pub fn ask<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Result<String> {
        Ok(succeed(&mut self.kubectl(words), SETTLED)?.stdout)
    }

    /// Applies manifests.
    ///
    /// # Errors
    ///
    /// If the API server rejects it.
    pub fn apply(&self, objects: &str) -> Result<()> {
        self.hand_over("apply", objects)
    }

    /// Creates objects from manifests.
    ///
    /// # Errors
    ///
    /// If the API server rejects it.
    pub fn create(&self, objects: &str) -> Result<()> {
        self.hand_over("create", objects)
    }

    fn hand_over(&self, verb: &str, objects: &str) -> Result<()> {
        let file = self.directory.path().join("objects");
        fs::write(&file, objects).with_context(|| format!("writing {}", file.display()))?;
        let arguments = [OsStr::new(verb), OsStr::new("-f"), file.as_os_str()];
        succeed(&mut self.kubectl(arguments), SETTLED * 3).map(drop)
    }

    /// Uses the API as the administrator, without kubectl's rate limit.
    ///
    /// # Errors
    ///
    /// If that fails.
    pub fn on_api<T: Send>(&self, work: impl AsyncFnOnce(Client) -> Result<T> + Send) -> Result<T> {
        let work = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let kubeconfig = Kubeconfig::read_from(&self.admin).context("reading the kubeconfig")?;
                let options = KubeConfigOptions::default();
                let config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
                work(Client::try_from(config)?).await
            })
        };
        if self.is_own() { Netns::open(format!("{NAMESPACES}laptop"))?.run(work) } else { work() }
    }

    /// Runs a command in a pod. It may fail.
    ///
    /// # Errors
    ///
    /// If it does not end.
    pub fn exec(&self, pod: &str, words: &[&str]) -> Result<Output> {
        run(&mut self.kubectl(["exec", pod, "--"].iter().chain(words)), SHORT)
    }

    /// The agent pods, by namespace and name.
    ///
    /// # Errors
    ///
    /// If the API server does not list them.
    pub fn agent_pods(&self) -> Result<Vec<String>> {
        const NAMES: &str = "jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.name}{\"\\n\"}{end}";
        let selector = ["get", "pods", "--all-namespaces", "-l", "app.kubernetes.io/name=podtrace-agent"];
        let finished = self.ask(selector.iter().chain(&["-o", NAMES]))?;
        Ok(finished.lines().map(str::to_owned).collect())
    }

    /// Installs the agents on our own cluster again.
    ///
    /// # Errors
    ///
    /// If the API server rejects it.
    pub fn install(&self) -> Result<()> {
        let state = self.own.as_ref().context("this cluster has no record of what was installed")?;
        let path = state.join("manifest.yaml");
        self.apply(&fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?)
    }

    /// Waits until a number of installed agents are ready.
    ///
    /// # Errors
    ///
    /// If that does not happen in time.
    pub fn installed_agents_stand(&self, number: usize) -> Result<()> {
        const READY: &str = "jsonpath={.status.numberReady}";
        let words = ["--namespace", "podtrace", "get", "daemonset", "podtrace-agent", "-o", READY];
        wait::until(&format!("{number} installed agents are ready"), SETTLED, || {
            Ok((self.ask(words)? == number.to_string()).then_some(()))
        })
    }

    /// Waits until the installed agents' pods are ready and there are no others.
    ///
    /// # Errors
    ///
    /// If that does not happen in time.
    pub fn agents_stand(&self, number: usize) -> Result<()> {
        const READY: &str =
            "jsonpath={range .items[*]}{.status.conditions[?(@.type==\"Ready\")].status}{\"\\n\"}{end}";
        let selector = ["get", "pods", "--all-namespaces", "-l", "app.kubernetes.io/name=podtrace-agent"];
        wait::until(&format!("{number} agents' pods are there and ready"), SETTLED, || {
            let finished = self.ask(selector.iter().chain(&["-o", READY]))?;
            let all = finished.lines().count();
            Ok((all == number && finished.lines().all(|status| status == "True")).then_some(()))
        })
    }

    /// A process of our own cluster, by the name that it was started by.
    ///
    /// # Errors
    ///
    /// If it is not on the account, or not our own cluster.
    pub fn process(&self, name: &str) -> Result<Process> {
        let state = self.own.as_ref().context("this cluster's processes are not ours")?;
        let noted = state.join("pids").join(name);
        let text = fs::read_to_string(&noted).with_context(|| format!("reading {}", noted.display()))?;
        let pid = text.split_whitespace().next().and_then(|pid| pid.parse().ok());
        let log = state.join("logs").join(name);
        let started = state.join("commands").join(name);
        let about = || format!("reading {}", started.display());
        let started = serde_json::from_slice(&fs::read(&started).with_context(about)?).with_context(about)?;
        Ok(Process { pid: pid.context("no process is noted")?, noted, log, started })
    }
}

/// A process of our own cluster.
#[derive(Debug)]
pub struct Process {
    pid: i32,
    noted: PathBuf,
    log: PathBuf,
    started: Started,
}

/// What a process was started by.
#[derive(Debug, Deserialize)]
struct Started {
    words: Vec<String>,
    environment: BTreeMap<String, String>,
}

impl Process {
    /// Sends it a signal.
    ///
    /// # Errors
    ///
    /// If it is not there.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        send(self.pid, signal)
    }

    /// Ends it, with its children, and starts the same again.
    ///
    /// # Errors
    ///
    /// If it does not end, or cannot be started.
    pub fn restart(&self) -> Result<()> {
        // nsenter waits for what it has started in a node, which is what matters.
        for pid in children(self.pid)?.into_iter().chain([self.pid]) {
            match send(pid, Signal::SIGKILL) {
                Err(_) if !is_there(pid) => {}
                sent => sent?,
            }
            wait::until(&format!("process {pid} has ended"), SHORT, || Ok((!is_there(pid)).then_some(())))?;
        }
        let log = fs::OpenOptions::new().append(true).open(&self.log).context("opening its log")?;
        let Started { words, environment } = &self.started;
        let (program, arguments) = words.split_first().context("it was started by nothing")?;
        let mut command = Command::new(program);
        command.args(arguments).envs(environment).process_group(0);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("starting {program} again"))?;
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).context("looking at it")?;
        let start = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(19));
        let start = start.context("it has no start")?;
        fs::write(&self.noted, format!("{} {start}", child.id())).context("noting it down")
    }
}

fn send(pid: i32, signal: Signal) -> Result<()> {
    kill(Pid::from_raw(pid), signal).with_context(|| format!("sending {signal} to process {pid}"))
}

/// Whether a process has not ended.
fn is_there(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

fn children(pid: i32) -> Result<Vec<i32>> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    text.split_whitespace().map(|child| child.parse().context("the number of a process")).collect()
}

/// The agents of podtrace on a node of our own cluster, by their processes.
///
/// # Errors
///
/// If the machine's processes cannot be looked at.
pub fn agents_on(node: &str) -> Result<Vec<i32>> {
    let network = |path: &Path| fs::read_link(path).ok();
    let node = fs::metadata(format!("{NAMESPACES}{node}")).context("looking at the node")?;
    let inode = std::os::unix::fs::MetadataExt::ino(&node);
    let wanted = PathBuf::from(format!("net:[{inode}]"));
    let mut agents = Vec::new();
    for entry in fs::read_dir("/proc").context("looking at the machine's processes")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        // Those that a pod idles by have arguments.
        if command == b"podtrace\0agent\0" && network(&entry.path().join("ns/net")) == Some(wanted.clone()) {
            agents.push(pid);
        }
    }
    Ok(agents)
}

/// Ends a process at once.
///
/// # Errors
///
/// If it is not there.
pub fn end(pid: i32) -> Result<()> {
    send(pid, Signal::SIGKILL)
}

/// Starts podtrace and waits until it traces.
///
/// # Errors
///
/// If it ends before that.
pub fn traced(command: &mut Command) -> Result<Running> {
    let mut trace = Running::start(command)?;
    trace.wait_for_line("tracing ", SETTLED)?;
    Ok(trace)
}

/// Waits until nothing of podtrace runs or is attached on the nodes of our own cluster.
///
/// # Errors
///
/// If something does.
pub fn nothing_runs() -> Result<()> {
    for node in ["node1", "node2"] {
        wait::until(&format!("no agent runs on {node}"), SHORT, || {
            Ok(agents_on(node)?.is_empty().then_some(()))
        })?;
        let network = Netns::open(format!("{NAMESPACES}{node}"))?;
        wait::until(&format!("nothing is attached on {node}"), SHORT, || {
            Ok(attached::tcx_in(node, &network)?.is_empty().then_some(()))
        })?;
    }
    Ok(())
}
