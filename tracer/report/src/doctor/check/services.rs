//! Services by the inventory against the rules of the nodes.

use podtrace_protocol::inventory::{Service, ServicePort};
use podtrace_rules::{End, Finder, Packet, Translation};

use crate::diagnose::words::quoted;
use crate::doctor::cluster::Cluster;
use crate::doctor::issue::{Issue, Kind, Severity};

pub(super) fn check(cluster: &Cluster<'_>, found: &mut Vec<Issue>) {
    for service in &cluster.inventory.services {
        // The API server's own has endpoints that are no pods.
        if service.endpoints.is_empty()
            && service.full_name() != "default/kubernetes"
            && !service.cluster_ips.is_empty()
        {
            found.extend(empty(cluster, service));
        }
    }
    let made: Vec<_> =
        cluster.rules.iter().map(|(node, finder)| (node, finder, missing(cluster, finder))).collect();
    let all = ports(cluster).count();
    let by_rules = made.iter().any(|(_, _, missing)| missing.len() < all);
    for (node, finder, missing) in &made {
        if !by_rules || missing.is_empty() || !finder.rules().gaps.is_empty() {
            continue;
        }
        found.push(unruled(node, missing, all));
    }
}

/// Services' ports that rules can lead somewhere: with a cluster IP, and an endpoint with an address.
fn ports<'a>(cluster: &'a Cluster<'_>) -> impl Iterator<Item = (&'a Service, &'a ServicePort)> {
    let services = cluster.inventory.services.iter().filter(|service| !service.cluster_ips.is_empty());
    services
        .filter(|service| !endpoints(cluster, service).is_empty())
        .flat_map(|service| service.ports.iter().map(move |port| (service, port)))
        .filter(|(_, port)| port.protocol_number().is_some())
}

fn endpoints(cluster: &Cluster<'_>, service: &Service) -> Vec<std::net::IpAddr> {
    let pods = cluster.inventory.pods.iter().filter(|pod| service.endpoints.contains(&pod.full_name()));
    pods.flat_map(|pod| pod.ips.iter().copied()).collect()
}

/// Whether a node's rules make any Service.
pub(crate) fn any(cluster: &Cluster<'_>, finder: &Finder) -> bool {
    ports(cluster).any(|(service, port)| leads(cluster, finder, service, port))
}

/// Whether a rule leads from a Service's port to one of its endpoints.
fn leads(cluster: &Cluster<'_>, finder: &Finder, service: &Service, port: &ServicePort) -> bool {
    let Some(protocol) = port.protocol_number() else { return false };
    let endpoints = endpoints(cluster, service);
    service.cluster_ips.iter().any(|address| {
        let source =
            cluster.pods.iter().map(|pod| pod.address).find(|own| own.is_ipv4() == address.is_ipv4());
        let before = Packet {
            source: source.unwrap_or(*address),
            destination: *address,
            protocol,
            source_port: None,
            destination_port: Some(port.port),
        };
        endpoints.iter().filter(|to| to.is_ipv4() == address.is_ipv4()).any(|to| {
            let after = Packet { destination: *to, destination_port: Some(port.target_port), ..before };
            finder.translated(&Translation { before, after, ..Translation::of(End::Destination) }).is_some()
        })
    })
}

/// Ports without a rule.
fn missing(cluster: &Cluster<'_>, finder: &Finder) -> Vec<String> {
    let missing = ports(cluster).filter(|(service, port)| !leads(cluster, finder, service, port));
    missing.map(|(service, port)| format!("{}:{}", service.full_name(), port.port)).collect()
}

fn unruled(node: &str, missing: &[String], all: usize) -> Issue {
    let name = quoted(node);
    let none = missing.len() == all;
    let first = quoted(&missing[0]);
    let (severity, problem) = if none {
        (Severity::Fault, format!("{name} has no rule for any Service, of {all} ports"))
    } else {
        let more = if missing.len() > 1 { format!(" and {} more", missing.len() - 1) } else { String::new() };
        (
            Severity::Warning,
            format!(
                "{name} has no rule that leads from {first}{more} to an endpoint, and rules for other Services"
            ),
        )
    };
    let mut issue = Issue::at(severity, Kind::ServiceUnruled, node, None)
        .found(
            problem,
            "rules by kube-proxy on every node, as other nodes have them, for each Service of the API",
        )
        .follows(if none {
            format!("Pods on {name} reach no Service")
        } else {
            format!("Pods on {name} do not reach it, unless it has internalTrafficPolicy Local")
        })
        .shown_by("nft list ruleset")
        .shown_by("iptables-save -t nat");
    issue.possible = vec!["kube-proxy does not run on the node, or cannot reach the API server (K3s: `journalctl -u k3s -u k3s-agent`)".to_owned()];
    issue.lasting = Some(
        "kube-proxy writes them anew when it starts; K3s: `systemctl restart k3s` or `k3s-agent` on the node"
            .to_owned(),
    );
    issue
}

fn empty(cluster: &Cluster<'_>, service: &Service) -> Option<Issue> {
    let node = cluster.facts.nodes().first()?;
    let name = quoted(&service.full_name());
    let addresses = service.cluster_ips.iter().map(|address| (*address).into());
    let issue = Issue::at(Severity::Note, Kind::ServiceEmpty, &node.name, None)
        .found(
            format!("no ready pod is behind the Service {name}"),
            "at least one pod that its selector matches and that is ready",
        )
        .follows("Connections to it are refused")
        .shown_by(format!("kubectl -n {} get service,endpointslices", quoted(&service.namespace)))
        .about(addresses);
    Some(issue)
}

#[cfg(test)]
mod tests {
    use podtrace_protocol::inventory;
    use podtrace_rules::{Family, Rules, iptables};

    use super::*;
    use crate::doctor::sample;

    fn found(listings: [&str; 2]) -> Vec<Issue> {
        let (mut surveys, _) = sample::healthy();
        for (survey, listing) in surveys.iter_mut().zip(listings) {
            survey.rules = Some(Rules { tables: iptables::parse(listing, Family::Ip), ..Rules::default() });
        }
        let services = "services:\n- {name: web, cluster_ips: [10.43.0.10], ports: [{protocol: tcp, port: 80, target_port: 8080}], endpoints: [default/pod3]}\n";
        let inventory = inventory::parse(&format!("{}{services}", sample::INVENTORY)).unwrap();
        let cluster = Cluster::new(&surveys, &inventory);
        let mut issues = Vec::new();
        check(&cluster, &mut issues);
        issues
    }

    const WEB: &str = "*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -d 10.43.0.10/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.42.1.10:8080\nCOMMIT\n";
    const NONE: &str = "*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n";

    #[test]
    fn a_node_without_the_others_rules_is_found() {
        assert_eq!(found([WEB, WEB]), []);
        let one = found([NONE, WEB]);
        assert_eq!(one.len(), 1, "{one:?}");
        assert_eq!((one[0].severity, one[0].node.as_str()), (Severity::Fault, "node1"));
        // Something else than rules may make them.
        assert_eq!(found([NONE, NONE]), []);
    }
}
