//! A node: containerd, the kubelet and kube-proxy in namespaces of the node's own.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::cgroup::{self, CGROUP};
use super::command::quietly;
use super::image::Image;
use super::network::{NodePlace, path};
use super::pki::Pki;
use super::process::Process;
use super::state::State;
use super::{Parts, image};
use crate::run;
use crate::wait;

/// What the first process of a node runs.
const SCRIPT: &str = include_str!("node.sh");
const CONTAINERD: &str = include_str!("containerd.toml");
const CNI: &str = include_str!("cni.conflist");

/// How long containerd may take to answer.
const READY: Duration = Duration::from_secs(60);

/// A node that is being started.
pub(super) struct Node<'a> {
    state: &'a State,
    parts: &'a Parts,
    place: &'static NodePlace,
    /// The first process.
    first: Process,
}

impl<'a> Node<'a> {
    /// Makes the namespaces, with containerd in them.
    pub(super) fn start(state: &'a State, parts: &'a Parts, place: &'static NodePlace) -> Result<Self> {
        let name = place.name;
        let config = CONTAINERD
            .replace("@IMAGE@", image::TEST)
            .replace("@CNI@", &parts.programs.cni().display().to_string());
        let config = state.write(&format!("{name}-containerd.toml"), config)?;
        state.write(&format!("{name}.conflist"), CNI.replace("@PODS@", place.pods))?;
        let script = state.write("node.sh", SCRIPT)?;
        let containerd = run::find_program_in("containerd", &parts.programs.path());
        let containerd = containerd.context("containerd is not in its package")?;
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", path(name).display()));
        // Whatever ends the outer process ends the node's first, and with it all that is in there.
        command.args([
            "--",
            "unshare",
            "--mount",
            "--uts",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ]);
        command.arg("sh").arg(script).arg(state.directory()).arg(name).arg(containerd).arg("-c").arg(config);
        command.env("PATH", search(parts)?);
        let outer = state.start(&format!("{name}-namespaces"), &mut command)?;
        let mut first = None;
        wait::until("the node's first process is there", READY, || {
            first = Some(outer.child()?);
            Ok(())
        })?;
        let first = first.context("it is not")?;
        state.note(&first_process(name), first)?;
        Ok(Self { state, parts, place, first })
    }

    /// Brings images into containerd, once it answers.
    pub(super) fn import(&self, images: &[Image]) -> Result<()> {
        let log = format!("{}-namespaces", self.place.name);
        wait::until("containerd answers", READY, || quietly(self.ctr().arg("version")).map(drop))
            .with_context(|| format!("its last words: {}", self.state.last_words(&log)))?;
        for image in images {
            quietly(self.ctr().args(["--namespace", "k8s.io", "images", "import"]).arg(image.path()))?;
        }
        Ok(())
    }

    /// Has the node join the cluster.
    pub(super) fn join(&self, pki: &Pki<'_>) -> Result<()> {
        let NodePlace { name, address, .. } = self.place;
        cgroup::make(name)?;
        let mut kubelet = self.inside(&self.parts.kubernetes.path("kubelet"));
        kubelet.args([
            format!("--kubeconfig={}", pki.kubeconfig(name).display()),
            format!("--hostname-override={name}"),
            format!("--node-ip={address}"),
            format!("--client-ca-file={}", pki.path("ca.crt").display()),
            format!("--cgroup-root=/{CGROUP}/{name}"),
        ]);
        kubelet.args([
            "--container-runtime=remote",
            "--container-runtime-endpoint=unix:///run/containerd/containerd.sock",
            "--fail-swap-on=false",
            "--enforce-node-allocatable=",
            "--cgroup-driver=cgroupfs",
            "--healthz-port=0",
            "--read-only-port=0",
            "--authorization-mode=AlwaysAllow",
            "--resolv-conf=/dev/null",
            "--image-gc-high-threshold=100",
            "--eviction-hard=",
            "--cluster-dns=10.43.0.10",
            "--cluster-domain=cluster.local",
        ]);
        self.state.start(&format!("{name}-kubelet"), &mut kubelet)?;
        let mut proxy = self.inside(&self.parts.kubernetes.path("kube-proxy"));
        proxy.args([
            format!("--kubeconfig={}", pki.kubeconfig("proxy").display()),
            format!("--hostname-override={name}"),
        ]);
        proxy.args([
            "--proxy-mode=iptables",
            "--cluster-cidr=10.42.0.0/16",
            // The machine's own table of connections stays as large as it is.
            "--conntrack-max-per-core=0",
            "--healthz-bind-address=",
            "--metrics-bind-address=127.0.0.1:10249",
        ]);
        self.state.start(&format!("{name}-proxy"), &mut proxy).map(drop)
    }

    fn ctr(&self) -> Command {
        self.inside(Path::new("ctr"))
    }

    /// A command in all of the node's namespaces.
    fn inside(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.first.pid()));
        command.args(["--net", "--mount", "--uts", "--pid", "--"]).arg(program);
        // Known to be fine: the node was started with it.
        command.envs(search(self.parts).map(|path| ("PATH", path)));
        command
    }
}

/// What the first process of a node goes by.
pub(super) fn first_process(node: &str) -> String {
    format!("{node}-first")
}

/// Where a node's programs are looked for: the cluster's before this machine's.
fn search(parts: &Parts) -> Result<std::ffi::OsString> {
    let [bin, sbin] = parts.programs.path();
    let system = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(Into::into);
    let path = [bin, sbin].into_iter().chain(system);
    std::env::join_paths(path).context("the cache's path cannot stand in PATH")
}
