//! What rules a cluster, on its first node: etcd, the API server, the controllers, the scheduler.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Parts;
use super::command::quietly;
use super::network::{API, NODES, path};
use super::pki::{ADMIN, Pki, kubeconfig};
use super::state::State;
use crate::run;
use crate::wait;

/// How long the API server may take to be ready.
const READY: Duration = Duration::from_secs(90);

/// Where etcd is asked; only within the first node.
const ETCD: &str = "http://127.0.0.1:2379";

/// The name of the API server's process.
const API_SERVER: &str = "kube-apiserver";

/// A command in the network of a node, or of another place on the wire.
pub(super) fn inside(place: &str, program: impl AsRef<Path>) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", path(place).display())).arg("--").arg(program.as_ref());
    command
}

/// A command of kubectl's, as the administrator.
pub(super) fn kubectl(state: &State, parts: &Parts) -> Command {
    let mut command = inside(NODES[0].name, parts.kubernetes.path("kubectl"));
    command.arg("--kubeconfig").arg(kubeconfig(state, ADMIN));
    command
}

/// Whether the API server says that it is ready.
pub(super) fn ready(state: &State, parts: &Parts) -> Result<()> {
    quietly(kubectl(state, parts).args(["--request-timeout=5s", "get", "--raw", "/readyz"])).map(drop)
}

/// Starts everything and waits until the API server is ready.
pub(super) fn start(state: &State, parts: &Parts, pki: &Pki<'_>) -> Result<()> {
    let first = NODES[0].name;
    let etcd = run::find_program_in("etcd", &parts.programs.path()).context("etcd is not in its package")?;
    let mut etcd = inside(first, etcd);
    etcd.arg("--data-dir").arg(state.path("etcd"));
    etcd.args(["--listen-client-urls", ETCD, "--advertise-client-urls", ETCD]);
    state.start("etcd", &mut etcd)?;

    let (address, port) = API;
    let file = |name: &str| pki.path(name).display().to_string();
    let mut server = inside(first, parts.kubernetes.path(API_SERVER));
    server.args([
        format!("--etcd-servers={ETCD}"),
        "--service-cluster-ip-range=10.43.0.0/16".to_owned(),
        format!("--advertise-address={address}"),
        "--bind-address=0.0.0.0".to_owned(),
        format!("--secure-port={port}"),
        format!("--tls-cert-file={}", file("api.crt")),
        format!("--tls-private-key-file={}", file("api.key")),
        format!("--client-ca-file={}", file("ca.crt")),
        format!("--kubelet-client-certificate={}", file("admin.crt")),
        format!("--kubelet-client-key={}", file("admin.key")),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        format!("--service-account-key-file={}", file("sa.pub")),
        format!("--service-account-signing-key-file={}", file("sa.key")),
        "--service-account-issuer=https://kubernetes.default".to_owned(),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--allow-privileged=true".to_owned(),
    ]);
    state.start(API_SERVER, &mut server)?;
    wait::until("the API server is ready", READY, || ready(state, parts))
        .with_context(|| format!("its last words: {}", state.last_words(API_SERVER)))?;

    let admin = format!("--kubeconfig={}", pki.kubeconfig(ADMIN).display());
    let mut controllers = inside(first, parts.kubernetes.path("kube-controller-manager"));
    controllers.args([&admin, &format!("--service-account-private-key-file={}", file("sa.key"))]);
    controllers.args([&format!("--root-ca-file={}", file("ca.crt")), "--cluster-cidr=10.42.0.0/16"]);
    controllers.args(["--allocate-node-cidrs=false", "--leader-elect=false", "--secure-port=0", "--port=0"]);
    // Nodes that are objects only are let be, and the pods on them: tests make some.
    controllers.args(["--node-monitor-grace-period=1h", "--node-startup-grace-period=1h"]);
    state.start("kube-controller-manager", &mut controllers)?;
    let mut scheduler = inside(first, parts.kubernetes.path("kube-scheduler"));
    scheduler.args([&admin, "--leader-elect=false", "--secure-port=0", "--port=0"]);
    state.start("kube-scheduler", &mut scheduler).map(drop)
}
