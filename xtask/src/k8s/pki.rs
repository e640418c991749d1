//! Certificates, and the kubeconfigs that hold them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;

use super::command::{quietly, words};
use super::network::{API, NODES};
use super::state::State;

/// What the API server is called: its address for all, its Service's for pods.
const NAMES: &str = "subjectAltName=IP:192.168.56.11,IP:127.0.0.1,IP:10.43.0.1,DNS:kubernetes.default";

/// What the others are for. Without an extension it would be a certificate of version 1, which rustls does not take.
const CLIENT: &str = "extendedKeyUsage=clientAuth";

/// Who administers the cluster.
pub(super) const ADMIN: &str = "admin";

/// Who traces, and may do what `podtrace manifest` lets.
pub(super) const USER: &str = "tracer-user";

/// How all keys are made.
const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc";

/// The keys and certificates of a cluster.
pub(super) struct Pki<'a> {
    state: &'a State,
}

impl<'a> Pki<'a> {
    /// Makes all of them, and a kubeconfig for everybody.
    pub(super) fn make(state: &'a State) -> Result<Self> {
        let pki = Self { state };
        pki.openssl(&format!(
            "req -x509 {KEY} -keyout ca.key -out ca.crt -subj /CN=podtrace-test-ca -days 30"
        ))?;
        pki.openssl("genrsa -out sa.key 2048")?;
        pki.openssl("rsa -in sa.key -pubout -out sa.pub")?;
        pki.sign("api", "/CN=apiserver", NAMES)?;
        pki.client(ADMIN, "/O=system:masters/CN=admin", 0o600)?;
        // Whoever the tests are for that user is nobody on this machine.
        pki.client(USER, &format!("/CN={USER}"), 0o644)?;
        for node in &NODES {
            let name = node.name;
            pki.client(name, &format!("/O=system:nodes/CN=system:node:{name}"), 0o600)?;
        }
        pki.client("proxy", "/CN=system:kube-proxy", 0o600)?;
        Ok(pki)
    }

    /// A file of them.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.state.path("pki").join(name)
    }

    /// The kubeconfig of somebody.
    pub(super) fn kubeconfig(&self, who: &str) -> PathBuf {
        kubeconfig(self.state, who)
    }

    fn client(&self, who: &str, subject: &str, mode: u32) -> Result<()> {
        self.sign(who, subject, CLIENT)?;
        let encoded = |name: String| -> Result<String> {
            let path = self.path(&name);
            Ok(BASE64.encode(fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?))
        };
        let (address, port) = API;
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {
                "server": format!("https://{address}:{port}"),
                "certificate-authority-data": encoded("ca.crt".to_owned())?,
            }}],
            "users": [{"name": who, "user": {
                "client-certificate-data": encoded(format!("{who}.crt"))?,
                "client-key-data": encoded(format!("{who}.key"))?,
            }}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": who}}],
            "current-context": "test",
        });
        let path = self.state.write(&format!("{who}.kubeconfig"), config.to_string())?;
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(&path, permissions).with_context(|| format!("cannot write {}", path.display()))
    }

    fn sign(&self, name: &str, subject: &str, extension: &str) -> Result<()> {
        self.state.write(&format!("pki/{name}.extension"), extension)?;
        self.openssl(&format!("req {KEY} -keyout {name}.key -out {name}.csr -subj {subject}"))?;
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out {name}.crt -days 30 \
             -extfile {name}.extension"
        ))
    }

    fn openssl(&self, line: &str) -> Result<()> {
        let mut command = words(&format!("openssl {line}"));
        quietly(command.current_dir(self.state.path("pki"))).map(drop)
    }
}

/// The kubeconfig of somebody.
pub(super) fn kubeconfig(state: &State, who: &str) -> PathBuf {
    state.path(&format!("{who}.kubeconfig"))
}
