//! Finds the CNI plugin, by its and the container runtime's files on the node.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use podtrace_protocol::topology::Cni;

/// Configuration of K3s' built-in flannel. It is in use if [`SUBNET`] exists as well.
const K3S_FLANNEL: &str = "var/lib/rancher/k3s/agent/etc/flannel/net-conf.json";
/// Written by flannel when it starts, in a directory that a reboot empties.
const SUBNET: &str = "run/flannel/subnet.env";
/// Where container runtimes look for CNI configurations: K3s' own containerd, then all others.
const CONFIGURATIONS: [&str; 2] = ["var/lib/rancher/k3s/agent/etc/cni/net.d", "etc/cni/net.d"];

/// Names of plugins by the type in their configuration. Any other is called by its type.
const NAMES: [(&str, &str); 11] = [
    ("antrea", "Antrea"),
    ("aws-cni", "Amazon VPC CNI"),
    ("azure-vnet", "Azure CNI"),
    ("bridge", "the bridge plugin"),
    ("calico", "Calico"),
    ("cilium-cni", "Cilium"),
    ("flannel", "flannel"),
    ("kube-ovn", "Kube-OVN"),
    ("ovn-k8s-cni-overlay", "OVN-Kubernetes"),
    ("ptp", "the ptp plugin"),
    ("weave-net", "Weave Net"),
];

/// A node's files, below its root directory.
pub(super) trait Files {
    /// A file's text; `None` if it does not exist or is not UTF-8.
    fn text(&self, path: &str) -> Option<String>;
    /// Names in a directory; empty if it does not exist.
    fn names(&self, directory: &str) -> Vec<String>;
}

/// The files below this directory.
impl Files for &Path {
    fn text(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.join(path)).ok()
    }

    fn names(&self, directory: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.join(directory)).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }
}

/// Finds the plugin.
pub(super) fn detect(files: &impl Files) -> Option<Cni> {
    k3s_flannel(files).or_else(|| configured(files))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct FlannelConfiguration {
    network: Option<String>,
    backend: Option<FlannelBackend>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct FlannelBackend {
    r#type: String,
}

fn k3s_flannel(files: &impl Files) -> Option<Cni> {
    let text = files.text(K3S_FLANNEL)?;
    // K3s' file stays when the cluster has switched to another plugin.
    let subnet = files.text(SUBNET)?;
    let FlannelConfiguration { network, backend } =
        serde_json::from_str(&text).unwrap_or(FlannelConfiguration { network: None, backend: None });
    Some(Cni {
        plugin: "flannel in K3s".to_owned(),
        backend: backend.map(|backend| backend.r#type),
        network: network.or_else(|| setting(&subnet, "FLANNEL_NETWORK")),
        config_file: absolute(K3S_FLANNEL),
    })
}

/// A value of a file of shell variables.
fn setting(variables: &str, name: &str) -> Option<String> {
    let mut settings = variables.lines().filter_map(|line| line.split_once('='));
    settings.find(|(key, _)| *key == name).map(|(_, value)| value.trim().to_owned())
}

#[derive(Deserialize)]
struct Configuration {
    #[serde(default)]
    name: String,
    r#type: Option<String>,
    #[serde(default)]
    plugins: Vec<PluginType>,
}

#[derive(Deserialize)]
struct PluginType {
    r#type: String,
}

/// What the runtime uses: the first usable file by name, and of a list of plugins the first, which creates the device.
fn configured(files: &impl Files) -> Option<Cni> {
    for directory in CONFIGURATIONS {
        let mut names = files.names(directory);
        names.retain(|name| {
            Path::new(name).extension().is_some_and(|end| end == "conf" || end == "conflist" || end == "json")
        });
        names.sort_unstable();
        for name in names {
            let path = format!("{directory}/{name}");
            let read = files.text(&path).and_then(|text| serde_json::from_str(&text).ok());
            let Some(Configuration { name, r#type, plugins }) = read else { continue };
            let Some(kind) = r#type.or_else(|| Some(plugins.into_iter().next()?.r#type)) else { continue };
            return Some(Cni {
                network: (kind == "flannel")
                    .then(|| setting(&files.text(SUBNET)?, "FLANNEL_NETWORK"))
                    .flatten(),
                plugin: plugin(&kind, &name),
                backend: None,
                config_file: absolute(&path),
            });
        }
    }
    None
}

fn plugin(kind: &str, network: &str) -> String {
    // Kind's plugin is ptp under another name.
    if kind == "ptp" && network == "kindnet" {
        return "kindnet".to_owned();
    }
    NAMES
        .iter()
        .find(|(known, _)| *known == kind)
        .map_or_else(|| kind.to_owned(), |(_, name)| (*name).to_owned())
}

fn absolute(path: &str) -> String {
    PathBuf::from("/").join(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    struct Disk(BTreeMap<&'static str, &'static str>);

    impl Files for Disk {
        fn text(&self, path: &str) -> Option<String> {
            self.0.get(path).map(|text| (*text).to_owned())
        }

        fn names(&self, directory: &str) -> Vec<String> {
            let below = |path: &&str| path.strip_prefix(directory)?.strip_prefix('/').map(str::to_owned);
            // Unordered, like a directory.
            self.0.keys().rev().filter_map(below).collect()
        }
    }

    fn found(
        files: &[(&'static str, &'static str)],
    ) -> Option<(String, Option<String>, Option<String>, String)> {
        let Cni { plugin, backend, network, config_file } = detect(&Disk(files.iter().copied().collect()))?;
        Some((plugin, backend, network, config_file))
    }

    fn cni(
        plugin: &str,
        backend: Option<&str>,
        network: Option<&str>,
        config_file: &str,
    ) -> Option<(String, Option<String>, Option<String>, String)> {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Some((plugin.to_owned(), own(backend), own(network), config_file.to_owned()))
    }

    const NET_CONF: &str = r#"{"Network": "10.42.0.0/16", "EnableIPv6": false, "EnableIPv4": true,
        "IPv6Network": "::/0", "Backend": {"Type": "host-gw"}}"#;
    const SUBNET_ENV: &str =
        "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.0.1/24\nFLANNEL_MTU=1450\n";
    const FLANNEL_LIST: &str = r#"{"name": "cbr0", "cniVersion": "1.0.0", "plugins": [
        {"type": "flannel", "delegate": {"hairpinMode": true}}, {"type": "portmap"}]}"#;

    #[test]
    fn the_plugin_is_known_by_its_files() {
        let k3s = (K3S_FLANNEL, NET_CONF);
        let subnet = (SUBNET, SUBNET_ENV);
        let calico =
            ("etc/cni/net.d/10-calico.conflist", r#"{"name": "k8s", "plugins": [{"type": "calico"}]}"#);
        for (what, files, expected) in [
            (
                "K3s as it comes",
                vec![k3s, subnet],
                cni("flannel in K3s", Some("host-gw"), Some("10.42.0.0/16"), &format!("/{K3S_FLANNEL}")),
            ),
            (
                "K3s that has Calico now",
                vec![k3s, calico],
                cni("Calico", None, None, "/etc/cni/net.d/10-calico.conflist"),
            ),
            (
                "a DaemonSet of flannel",
                vec![subnet, ("etc/cni/net.d/10-flannel.conflist", FLANNEL_LIST)],
                cni("flannel", None, Some("10.244.0.0/16"), "/etc/cni/net.d/10-flannel.conflist"),
            ),
            (
                "the first file counts, and files that are none do not",
                vec![
                    calico,
                    ("etc/cni/net.d/05-cilium.conf", r#"{"name": "cilium", "type": "cilium-cni"}"#),
                    ("etc/cni/net.d/00-broken.conf", "{"),
                    ("etc/cni/net.d/00-old.conf.bak", r#"{"type": "weave-net"}"#),
                ],
                cni("Cilium", None, None, "/etc/cni/net.d/05-cilium.conf"),
            ),
            (
                "K3s's own directory goes first",
                vec![calico, ("var/lib/rancher/k3s/agent/etc/cni/net.d/10-x.conf", r#"{"type": "new-one"}"#)],
                cni("new-one", None, None, "/var/lib/rancher/k3s/agent/etc/cni/net.d/10-x.conf"),
            ),
            (
                "kind",
                vec![(
                    "etc/cni/net.d/10-kindnet.conflist",
                    r#"{"name": "kindnet", "plugins": [{"type": "ptp"}]}"#,
                )],
                cni("kindnet", None, None, "/etc/cni/net.d/10-kindnet.conflist"),
            ),
            ("no Kubernetes", vec![subnet], None),
        ] {
            assert_eq!(found(&files), expected, "{what}");
        }
    }
}
