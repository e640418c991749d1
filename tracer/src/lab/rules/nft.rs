//! nftables rules like those of kube-proxy's nftables mode, beside those of the network.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use anyhow::Result;

use super::super::network::Family;
use super::super::plan::{LabNode, Plan};
use super::super::services::{Endpoint, LabService, SERVICES};
use super::{MARK, NAMESPACE, hash, masquerading};

/// The rules of a node.
pub(super) fn text(plan: &Plan, node: &LabNode) -> Result<String> {
    let mut text = String::new();
    services(plan, node, &mut text);
    text.push_str(&masquerading(plan.masquerade.nft(), plan, node)?);
    Ok(text)
}

/// The words of a family: its table, the type of its addresses, and those of the node itself.
fn words(family: Family) -> (&'static str, &'static str, &'static str) {
    match family {
        Family::Ipv4 => ("ip", "ipv4_addr", "127.0.0.0/8"),
        Family::Ipv6 => ("ip6", "ipv6_addr", "::1"),
    }
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
    // Names of chains have no colons.
    let address = address.to_string().replace(':', ".");
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
    let family = plan.family();
    let ((ip, addresses_type, loopback), pods) = (words(family), plan.pods_subnet());
    line(&format!("table {ip} kube-proxy {{"));
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
            line(&format!("{ip} saddr {address} jump mark-for-masquerade"));
            let target = SocketAddr::new(address, port);
            line(&format!("meta l4proto {} dnat to {target}", service.protocol));
            line("}");
        }
        let LabService { protocol, port, .. } = service;
        let address = service.address(family);
        line(&format!("chain service-{} {{", name(service)));
        line(&format!(
            "{ip} daddr {address} {protocol} dport {port} {ip} saddr != {pods} jump mark-for-masquerade"
        ));
        line(&choice(service, &service.endpoints(plan, None)));
        line("}");
        if service.node_port.is_some() {
            line(&format!("chain {} {{", external_name(service)));
            if service.local {
                line(&format!(
                    "{ip} saddr {pods} goto service-{} comment \"short-circuit pod traffic\"",
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
        let LabService { protocol, port, .. } = service;
        let address: IpAddr = service.address(family);
        Some(format!("{address} . {protocol} . {port} : goto service-{}", name(service)))
    });
    let ports = entries(&|service: &LabService| {
        Some(format!("{} . {} : goto {}", service.protocol, service.node_port?, external_name(service)))
    });
    line(&format!(
        "map service-ips {{ type {addresses_type} . inet_proto . inet_service : verdict; elements = {{ {addresses} }} }}"
    ));
    line(&format!(
        "map service-nodeports {{ type inet_proto . inet_service : verdict; elements = {{ {ports} }} }}"
    ));
    line("chain services {");
    line(&format!("{ip} daddr . meta l4proto . th dport vmap @service-ips"));
    line(&format!(
        "{ip} daddr != {loopback} fib daddr type local meta l4proto . th dport vmap @service-nodeports"
    ));
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
