//! `cargo xtask k8s`: a real Kubernetes on this machine, and podtrace's tests on it.
//!
//! Two nodes, each a set of namespaces: network, processes, mounts, host name. What runs there is what runs on any
//! node: containerd, the kubelet, kube-proxy. `binaries` builds Kubernetes, `debian` fetches the rest; `network` lays
//! the wires, `pki` signs, `control` and `node` start what makes a cluster, `image` is what its pods run, `objects` what
//! is on it; `state` keeps account of it all, and `remove` takes it away by that; `suite` tests.

mod binaries;
mod cgroup;
mod command;
mod control;
mod debian;
mod image;
mod network;
mod node;
mod objects;
mod pki;
mod process;
mod remove;
mod state;
mod suite;
mod up;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};

use self::binaries::Binaries;
use self::debian::Programs;
use self::state::State;
use crate::toolchain::{Route, Toolchain};
use crate::{apt, musl, root, workspace};

pub(crate) use self::suite::cluster;

/// What to do with the cluster.
#[derive(clap::Subcommand)]
pub(crate) enum Action {
    /// Start a cluster of two nodes (root)
    Up {
        #[command(flatten)]
        podtrace: Podtrace,
    },
    /// Start a cluster, test podtrace on it, and remove it; one that is up is used as it is (root)
    Test {
        /// Test on this cluster instead, as far as any cluster lets itself be tested
        #[arg(long, value_name = "FILE")]
        kubeconfig: Option<PathBuf>,
        /// Arguments for the tests, such as a part of their names
        #[arg(last = true, value_name = "TEST ARGUMENTS")]
        arguments: Vec<String>,
    },
    /// Remove the cluster, or what there is of it (root)
    Down,
}

/// The podtrace that agents run.
#[derive(clap::Args)]
pub(crate) struct Podtrace {
    /// A podtrace without shared libraries for the agents' image [default: it is built]
    #[arg(long = "podtrace", value_name = "FILE")]
    file: Option<PathBuf>,
}

pub(crate) fn run(action: Action, route: Option<Route>) -> Result<ExitCode> {
    match action {
        Action::Up { podtrace: Podtrace { file } } => {
            match file {
                Some(file) => up(file)?,
                None => up(podtrace(&Toolchain::provide(route)?)?)?,
            }
            Ok(ExitCode::SUCCESS)
        }
        Action::Test { kubeconfig, arguments } => suite::run(route, kubeconfig.as_deref(), &arguments),
        Action::Down => {
            down()?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// What a cluster is made of.
struct Parts {
    kubernetes: Binaries,
    programs: Programs,
    podtrace: PathBuf,
}

impl Parts {
    /// Provides them, which takes no root but for packages.
    fn provide(podtrace: PathBuf) -> Result<Self> {
        ensure!(
            cfg!(target_arch = "x86_64"),
            "the cluster's images are for x86-64, which this machine is not"
        );
        let cache = workspace::cache_dir()?.join("k8s");
        let kubernetes = Binaries::provide(&cache)?;
        let programs = Programs::provide(&cache)?;
        for (package, why) in [
            ("iproute2", "the nodes' networks are made with it"),
            ("iptables", "kube-proxy writes its rules with it"),
            ("nftables", "it keeps the laptop from all but the API server"),
            ("conntrack", "kube-proxy forgets connections with it"),
            ("openssl", "it signs the cluster's certificates"),
            ("libseccomp2", "containers are started with it"),
            ("util-linux", "namespaces are made and entered with it"),
        ] {
            apt::install(&[package], why)?;
        }
        Ok(Self { kubernetes, programs, podtrace })
    }
}

/// Whether Kubernetes was built, so that a cluster takes seconds.
pub(crate) fn is_cached() -> bool {
    workspace::cache_dir().is_ok_and(|cache| Binaries::cached(&cache.join("k8s")).is_some())
}

/// Builds the podtrace that agents run.
fn podtrace(toolchain: &Toolchain) -> Result<PathBuf> {
    let mut programs = musl::programs(toolchain, &[])?;
    programs.remove("podtrace").ok_or_else(|| anyhow::anyhow!("cargo has not compiled podtrace"))
}

/// Starts a cluster, unless one is up.
fn up(podtrace: PathBuf) -> Result<()> {
    let parts = Parts::provide(podtrace)?;
    if !root::is_root() {
        return as_root(&["up".into(), "--podtrace".into(), parts.podtrace.into()]);
    }
    up::up(&State::standard(), &parts)
}

/// Removes the cluster.
fn down() -> Result<()> {
    if root::is_root() { remove::down(&State::standard()) } else { as_root(&["down".into()]) }
}

/// Does the same as root. The cache is still the user's.
fn as_root(arguments: &[std::ffi::OsString]) -> Result<()> {
    use anyhow::Context as _;
    root::authenticate()?;
    let cache = workspace::cache_dir()?;
    let mut home = std::ffi::OsString::from("XDG_CACHE_HOME=");
    home.push(cache.parent().context("the cache has no directory")?);
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    let mut command = root::command("env")?;
    command.arg(home).arg(own).arg("k8s").args(arguments);
    let status = command.status().context("cannot run sudo")?;
    ensure!(status.success(), "as root it did not succeed ({status})");
    Ok(())
}
