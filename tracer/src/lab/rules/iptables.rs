//! iptables rules like those of kube-proxy's iptables mode, beside those of the network.

use std::net::SocketAddr;

use anyhow::Result;

use super::super::network::Family;
use super::super::plan::{LabNode, Plan};
use super::super::services::{Endpoint, LabService, SERVICES};
use super::{MARK, NAMESPACE, hash, masquerading};

/// Chains that exist without any Service.
const CHAINS: [&str; 4] = ["KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-MARK-MASQ", "KUBE-POSTROUTING"];

/// The rules of a node.
pub(super) fn text(plan: &Plan, node: &LabNode) -> Result<String> {
    let mut nat = Nat::default();
    for chain in CHAINS {
        nat.chains.push(chain.to_owned());
    }
    nat.rule("PREROUTING", "-m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES");
    nat.rule("OUTPUT", "-m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES");
    nat.rule("POSTROUTING", "-m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING");
    nat.rule("KUBE-MARK-MASQ", &format!("-j MARK --set-xmark {MARK}/{MARK}"));
    nat.rule("KUBE-POSTROUTING", &format!("-m mark ! --mark {MARK}/{MARK} -j RETURN"));
    nat.rule("KUBE-POSTROUTING", &format!("-j MARK --set-xmark {MARK}/0x0"));
    nat.rule(
        "KUBE-POSTROUTING",
        "-m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE --random-fully",
    );
    for service in &SERVICES {
        nat.service(service, plan, node);
    }
    nat.rule(
        "KUBE-SERVICES",
        "-m comment --comment \"kubernetes service nodeports; NOTE: this must be the last rule in this chain\" -m \
         addrtype --dst-type LOCAL -j KUBE-NODEPORTS",
    );
    for line in masquerading(plan.masquerade.iptables(), plan, node)?.lines() {
        match line.strip_prefix(':').and_then(|line| line.split_once(' ')) {
            Some((chain, _)) => nat.chains.push(chain.to_owned()),
            None => nat.rules.push(line.to_owned()),
        }
    }
    Ok(nat.text())
}

/// The nat table.
#[derive(Default)]
struct Nat {
    chains: Vec<String>,
    rules: Vec<String>,
}

impl Nat {
    fn rule(&mut self, chain: &str, rule: &str) {
        self.rules.push(format!("-A {chain} {rule}"));
    }

    fn chain(&mut self, name: String) -> String {
        self.chains.push(name.clone());
        name
    }

    fn service(&mut self, service: &LabService, plan: &Plan, node: &LabNode) {
        let LabService { name, protocol, port_name, port, .. } = service;
        let (address, pods) = (service.address(plan.family()), plan.pods_subnet());
        let host = host_prefix(plan.family());
        let full = format!("{NAMESPACE}/{name}:{port_name}");
        let comment = |text: &str| format!("-m comment --comment \"{text}\"");
        let chain = self.chain(format!("KUBE-SVC-{}", hash(&full, 16)));
        let to_it = format!(
            "-d {address}/{host} -p {protocol} {} -m {protocol} --dport {port}",
            comment(&format!("{full} cluster IP"))
        );
        self.rule("KUBE-SERVICES", &format!("{to_it} -j {chain}"));
        self.rule(&chain, &format!("! -s {pods} {to_it} -j KUBE-MARK-MASQ"));
        let endpoints = service.endpoints(plan, None);
        for endpoint in &endpoints {
            self.endpoint(service, &full, endpoint, host);
        }
        self.choice(&chain, &full, &endpoints);
        let Some(node_port) = service.node_port else { return };
        let external = self.chain(format!("KUBE-EXT-{}", hash(&full, 16)));
        self.rule(
            "KUBE-NODEPORTS",
            &format!("-p {protocol} {} -m {protocol} --dport {node_port} -j {external}", comment(&full)),
        );
        if !service.local {
            let text = comment(&format!("masquerade traffic for {full} external destinations"));
            self.rule(&external, &format!("{text} -j KUBE-MARK-MASQ"));
            self.rule(&external, &format!("-j {chain}"));
            return;
        }
        let own = self.chain(format!("KUBE-SVL-{}", hash(&full, 16)));
        let text = comment(&format!("pod traffic for {full} external destinations"));
        self.rule(&external, &format!("-s {pods} {text} -j {chain}"));
        let masquerade = comment(&format!("masquerade LOCAL traffic for {full} external destinations"));
        self.rule(&external, &format!("{masquerade} -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ"));
        let route = comment(&format!("route LOCAL traffic for {full} external destinations"));
        self.rule(&external, &format!("{route} -m addrtype --src-type LOCAL -j {chain}"));
        self.rule(&external, &format!("-j {own}"));
        self.choice(&own, &full, &service.endpoints(plan, Some(node)));
    }

    fn endpoint(&mut self, service: &LabService, full: &str, endpoint: &Endpoint, host: u8) {
        let Endpoint { address, port } = *endpoint;
        let target = SocketAddr::new(address, port);
        let protocol = service.protocol;
        let chain = self.chain(separate(full, endpoint));
        let comment = format!("-m comment --comment \"{full}\"");
        self.rule(&chain, &format!("-s {address}/{host} {comment} -j KUBE-MARK-MASQ"));
        self.rule(
            &chain,
            &format!("-p {protocol} {comment} -m {protocol} -j DNAT --to-destination {target}"),
        );
    }

    /// Chooses an endpoint at random: the first rule takes its share, the next its share of the rest, the last all others.
    fn choice(&mut self, chain: &str, full: &str, endpoints: &[Endpoint]) {
        for (number, endpoint) in endpoints.iter().enumerate() {
            let Endpoint { address, port } = endpoint;
            let left = endpoints.len() - number;
            let chance = match left {
                1 => String::new(),
                _ => format!(
                    " -m statistic --mode random --probability {:.11}",
                    1.0 / f64::from(u32::try_from(left).unwrap_or(u32::MAX))
                ),
            };
            let comment = format!("-m comment --comment \"{full} -> {address}:{port}\"");
            self.rule(chain, &format!("{comment}{chance} -j {}", separate(full, endpoint)));
        }
    }

    fn text(&self) -> String {
        let mut text = "*nat\n".to_owned();
        for chain in &self.chains {
            text.push_str(&format!(":{chain} - [0:0]\n"));
        }
        for rule in &self.rules {
            text.push_str(rule);
            text.push('\n');
        }
        text.push_str("COMMIT\n");
        text
    }
}

/// Length of the prefix that is one address.
fn host_prefix(family: Family) -> u8 {
    match family {
        Family::Ipv4 => 32,
        Family::Ipv6 => 128,
    }
}

/// Name of an endpoint's chain.
fn separate(full: &str, endpoint: &Endpoint) -> String {
    let Endpoint { address, port } = endpoint;
    format!("KUBE-SEP-{}", hash(&format!("{full} {address}:{port}"), 16))
}
