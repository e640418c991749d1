//! nftables rules like those of kube-proxy's nftables mode and flannel.

use std::fmt::Write as _;

use super::super::plan::{LabNode, Plan};
use super::super::services::{Endpoint, LabService, SERVICES};
use super::{MARK, NAMESPACE, POD_NETWORK, hash};

/// The rules of a node.
pub(super) fn text(plan: &Plan, node: &LabNode) -> String {
    let mut text = String::new();
    services(plan, node, &mut text);
    text.push_str(&masquerading(node));
    text
}

/// `ULMVA6XW-default/web/tcp/http`: the part of a Service's name in its chains.
fn name(service: &LabService) -> String {
    let LabService { name, protocol, port_name, .. } = service;
    let path = format!("{NAMESPACE}/{name}/{protocol}/{port_name}");
    format!("{}-{path}", hash(&path, 8))
}

fn endpoint_name(service: &LabService, endpoint: &Endpoint) -> String {
    let LabService { name, protocol, port_name, .. } = service;
    let Endpoint { address, port } = endpoint;
    let path = format!("{NAMESPACE}/{name}/{protocol}/{port_name}__{address}/{port}");
    format!("endpoint-{}-{path}", hash(&path, 8))
}

fn external_name(service: &LabService) -> String {
    format!("external-{}", name(service))
}

fn services(plan: &Plan, node: &LabNode, text: &mut String) {
    let mut line = |line: &str| {
        text.push_str(line);
        text.push('\n');
    };
    line("table ip kube-proxy {");
    line("comment \"rules for kube-proxy\"");
    line(&format!("chain mark-for-masquerade {{ meta mark set meta mark or {MARK}; }}"));
    line("chain masquerading {");
    line(&format!("meta mark and {MARK} == 0 return"));
    line(&format!("meta mark set meta mark xor {MARK}"));
    line("masquerade fully-random");
    line("}");
    for service in &SERVICES {
        for endpoint in service.endpoints(plan, None) {
            let Endpoint { address, port } = endpoint;
            line(&format!("chain {} {{", endpoint_name(service, &endpoint)));
            line(&format!("ip saddr {address} jump mark-for-masquerade"));
            line(&format!("meta l4proto {} dnat to {address}:{port}", service.protocol));
            line("}");
        }
        let LabService { address, protocol, port, .. } = service;
        line(&format!("chain service-{} {{", name(service)));
        line(&format!(
            "ip daddr {address} {protocol} dport {port} ip saddr != {POD_NETWORK} jump mark-for-masquerade"
        ));
        line(&choice(service, &service.endpoints(plan, None)));
        line("}");
        if service.node_port.is_some() {
            line(&format!("chain {} {{", external_name(service)));
            if service.local {
                line(&format!(
                    "ip saddr {POD_NETWORK} goto service-{} comment \"short-circuit pod traffic\"",
                    name(service)
                ));
                line("fib saddr type local jump mark-for-masquerade comment \"masquerade local traffic\"");
                line(&format!(
                    "fib saddr type local goto service-{} comment \"short-circuit local traffic\"",
                    name(service)
                ));
                line(&choice(service, &service.endpoints(plan, Some(node))));
            } else {
                line("jump mark-for-masquerade");
                line(&format!("goto service-{}", name(service)));
            }
            line("}");
        }
    }
    let entries = |of: &dyn Fn(&LabService) -> Option<String>| {
        SERVICES.iter().filter_map(of).collect::<Vec<_>>().join(", ")
    };
    let addresses = entries(&|service: &LabService| {
        let LabService { address, protocol, port, .. } = service;
        Some(format!("{address} . {protocol} . {port} : goto service-{}", name(service)))
    });
    let ports = entries(&|service: &LabService| {
        Some(format!("{} . {} : goto {}", service.protocol, service.node_port?, external_name(service)))
    });
    line(&format!(
        "map service-ips {{ type ipv4_addr . inet_proto . inet_service : verdict; elements = {{ {addresses} }} }}"
    ));
    line(&format!(
        "map service-nodeports {{ type inet_proto . inet_service : verdict; elements = {{ {ports} }} }}"
    ));
    line("chain services {");
    line("ip daddr . meta l4proto . th dport vmap @service-ips");
    line("ip daddr != 127.0.0.0/8 fib daddr type local meta l4proto . th dport vmap @service-nodeports");
    line("}");
    line("chain nat-prerouting { type nat hook prerouting priority -100; jump services; }");
    line("chain nat-output { type nat hook output priority -100; jump services; }");
    line("chain nat-postrouting { type nat hook postrouting priority 100; jump masquerading; }");
    line("}");
}

/// Chooses an endpoint at random.
fn choice(service: &LabService, endpoints: &[Endpoint]) -> String {
    if endpoints.is_empty() {
        return "drop".to_owned();
    }
    let mut text = format!("numgen random mod {} vmap {{ ", endpoints.len());
    for (number, endpoint) in endpoints.iter().enumerate() {
        let comma = if number == 0 { "" } else { ", " };
        // Writing to memory does not fail.
        let _ = write!(text, "{comma}{number} : goto {}", endpoint_name(service, endpoint));
    }
    text.push_str(" }");
    text
}

/// flannel's masquerading: outside of the cluster, a pod's packets have the node's address.
fn masquerading(node: &LabNode) -> String {
    let own = node.pod_subnet();
    format!(
        "table ip flannel-ipv4 {{\n\
         chain postrtg {{ type nat hook postrouting priority 100;\n\
         meta mark and {MARK} == {MARK} return comment \"kube-proxy\"\n\
         ip saddr {own} ip daddr {POD_NETWORK} return\n\
         ip saddr {POD_NETWORK} ip daddr != 224.0.0.0/4 ip daddr != {POD_NETWORK} masquerade fully-random\n\
         ip saddr != {POD_NETWORK} ip daddr {own} return\n\
         }}\n\
         }}\n"
    )
}
