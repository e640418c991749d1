//! Looks up an endpoint in the inventory: its addresses, ports, pods and nodes.
//!
//! A Service stands for its cluster IPs and the addresses of its endpoints, since NAT changes one into the other. An
//! address stands for itself, unless it is a Service's cluster IP, or a node's with a `NodePort`: then for the Service.

use std::net::IpAddr;

use ipnet::IpNet;

use super::endpoint::{Endpoint, Port};
use super::model::{Inventory, Node, Pod, Service, ServicePort, WhyUntraceable};
use super::nearest::nearest_text;
use super::resolve_error::ResolveError;
use super::resolve_pods;

/// The result of looking up an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// The endpoint in full: `default/pod1`, `svc/shop/web:80`, `node/node1`, `10.0.0.1 (default/pod1)`, `any`.
    pub what: String,
    /// Its addresses; empty for all, or those of its networks.
    pub addresses: Vec<IpAddr>,
    /// Its networks. Where there are any, single addresses are among them, as networks of their own.
    pub networks: Vec<IpNet>,
    /// Its ports; empty for all. A Service's port is present in all forms: at the cluster IP, at the endpoints and at the
    /// nodes.
    pub ports: Vec<u16>,
    /// If it is a Service: its ports, or the one that was named.
    pub service: Vec<ServicePort>,
    /// `NAMESPACE/NAME` of the pod, or of the pods behind the Service.
    pub pods: Vec<String>,
    /// Names of the nodes where its packets start or end. Empty for an address outside of the cluster: its packets pass the
    /// nodes of the other end.
    pub nodes: Vec<String>,
}

/// Looks up an endpoint. Names without a namespace are taken from `namespace`.
///
/// # Errors
///
/// If it does not exist, or has no addresses of its own.
pub fn resolve(
    endpoint: &Endpoint,
    inventory: &Inventory,
    namespace: &str,
) -> Result<Resolved, ResolveError> {
    let cluster = Cluster(inventory);
    let in_namespace = |own: &Option<String>| own.clone().unwrap_or_else(|| namespace.to_owned());
    match endpoint {
        Endpoint::Any => Ok(Resolved {
            what: "any".to_owned(),
            nodes: inventory.nodes.iter().map(|node| node.name.clone()).collect(),
            ..Resolved::default()
        }),
        Endpoint::Pod { namespace, name } => cluster.pod(&in_namespace(namespace), name),
        Endpoint::Service { namespace, name, port } => {
            let service = cluster.service(&in_namespace(namespace), name)?;
            let number = port.as_ref().map(|port| port_number(service, port)).transpose()?;
            cluster.resolve_service(service, number)
        }
        Endpoint::Workload { kind, namespace, name } => {
            resolve_pods::workload(&cluster, *kind, &in_namespace(namespace), name)
        }
        Endpoint::Labels { everywhere, selector } => {
            resolve_pods::labelled(&cluster, selector, (!everywhere).then_some(namespace))
        }
        Endpoint::Network(network) => Ok(resolve_pods::network(&cluster, *network)),
        Endpoint::Several(endpoints) => {
            let all: Result<Vec<_>, _> =
                endpoints.iter().map(|endpoint| resolve(endpoint, inventory, namespace)).collect();
            resolve_pods::merged(all?)
        }
        Endpoint::Node { name } => cluster.node(name),
        Endpoint::Address { ip, port } => Ok(cluster.address(*ip, *port)),
    }
}

/// The number of a Service's port.
fn port_number(service: &Service, port: &Port) -> Result<u16, ResolveError> {
    let has = |known: &&ServicePort| match port {
        Port::Number(number) => known.port == *number,
        Port::Name(name) => known.name.as_ref() == Some(name),
    };
    service.ports.iter().find(has).map(|known| known.port).ok_or_else(|| no_such_port(service, port))
}

fn no_such_port(service: &Service, port: &Port) -> ResolveError {
    let known = service.ports.iter().map(|known| {
        let ServicePort { name, protocol, port, .. } = known;
        let name = name.as_ref().map_or_else(String::new, |name| format!(" ({name})"));
        format!("{port}/{protocol}{name}")
    });
    let ports: Vec<_> = known.collect();
    let ports = if ports.is_empty() { "none".to_owned() } else { ports.join(", ") };
    ResolveError::NoSuchPort { service: service.full_name(), port: port.to_string(), ports }
}

pub(super) struct Cluster<'a>(pub(super) &'a Inventory);

impl Resolved {
    /// All forms of a port: at the cluster IP, at the endpoints and at the nodes.
    #[must_use]
    pub fn ports_of(&self, port: u16) -> Vec<u16> {
        let forms = self.service.iter().filter(|known| [known.port, known.target_port].contains(&port));
        let mut ports = vec![port];
        ports.extend(forms.flat_map(forms_of));
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    /// The destination port for packets of an IP protocol, if known.
    #[must_use]
    pub fn port_of(&self, protocol: u8) -> Option<u16> {
        let of_service = self.service.iter().find(|known| known.protocol_number() == Some(protocol));
        of_service.map(|known| known.port).or_else(|| self.ports.first().copied())
    }

    /// The Service's `NodePort`s, as IP protocol number and port.
    #[must_use]
    pub fn node_ports(&self) -> Vec<(u8, u16)> {
        self.service.iter().filter_map(|port| Some((port.protocol_number()?, port.node_port?))).collect()
    }
}

fn forms_of(port: &ServicePort) -> impl Iterator<Item = u16> {
    [port.port, port.target_port].into_iter().chain(port.node_port)
}

impl<'a> Cluster<'a> {
    fn pod(&self, namespace: &str, name: &str) -> Result<Resolved, ResolveError> {
        let full_name = format!("{namespace}/{name}");
        let found = self.0.pods.iter().find(|pod| pod.namespace == namespace && pod.name == name);
        let Some(pod) = found else {
            let mut reasons = self.untraceable(namespace, name);
            let error = reasons.find_map(|why| match why {
                WhyUntraceable::UnscheduledPod(message) => {
                    Some(ResolveError::Unscheduled { pod: full_name.clone(), message: message.clone() })
                }
                WhyUntraceable::CompletedPod => Some(ResolveError::Completed { pod: full_name.clone() }),
                WhyUntraceable::ExternalName(_) => None,
            });
            return Err(error.unwrap_or_else(|| self.unknown_pod(namespace, name)));
        };
        if pod.host_network {
            return Err(ResolveError::HostNetwork { pod: full_name, node: pod.node.clone() });
        }
        if pod.ips.is_empty() {
            return Err(ResolveError::NoAddress { pod: full_name });
        }
        if !self.0.nodes.iter().any(|node| node.name == pod.node) {
            let near = nearest_text(&pod.node, "nodes", self.node_names());
            return Err(ResolveError::UnknownNode { pod: full_name, node: pod.node.clone(), near });
        }
        Ok(Resolved {
            what: full_name.clone(),
            addresses: pod.ips.clone(),
            pods: vec![full_name],
            nodes: vec![pod.node.clone()],
            ..Resolved::default()
        })
    }

    /// Why objects of this name cannot be traced. A pod and a Service can have the same name.
    fn untraceable(&self, namespace: &str, name: &str) -> impl Iterator<Item = &'a WhyUntraceable> {
        let objects = self.0.untraceable.iter();
        objects
            .filter(move |object| object.namespace == namespace && object.name == name)
            .map(|object| &object.why)
    }

    /// Also suggests a node or Service of exactly this name: the user may have left out the kind.
    fn unknown_pod(&self, namespace: &str, name: &str) -> ResolveError {
        if let Some(unknown) = self.unknown_namespace(namespace, name) {
            return unknown;
        }
        let full_name = format!("{namespace}/{name}");
        let mut near = nearest_text(&full_name, "pods", self.pod_names().iter().map(String::as_str));
        if self.0.nodes.iter().any(|node| node.name == name) {
            near.push_str(&format!("; a node has that name: node/{name}"));
        }
        if self.0.services.iter().any(|service| service.namespace == namespace && service.name == name) {
            near.push_str(&format!("; a service has that name: svc/{full_name}"));
        }
        ResolveError::Unknown { kind: "pod", name: full_name, near }
    }

    /// If the namespace has no objects and no other namespace has the name, the namespace is the mistake.
    pub(super) fn unknown_namespace(&self, namespace: &str, name: &str) -> Option<ResolveError> {
        let Inventory { nodes: _, pods, services, untraceable } = self.0;
        let mut things = pods
            .iter()
            .map(|pod| (&pod.namespace, &pod.name))
            .chain(services.iter().map(|service| (&service.namespace, &service.name)))
            .chain(untraceable.iter().map(|thing| (&thing.namespace, &thing.name)));
        if things.clone().any(|(own, _)| own == namespace) || things.any(|(_, own)| own == name) {
            return None;
        }
        let mut names: Vec<_> = pods.iter().map(|pod| pod.namespace.as_str()).collect();
        names.extend(services.iter().map(|service| service.namespace.as_str()));
        names.sort_unstable();
        names.dedup();
        // Without any namespace, "there are no pods" says more.
        if names.is_empty() {
            return None;
        }
        let near = nearest_text(namespace, "namespaces", names.into_iter());
        Some(ResolveError::Unknown { kind: "namespace", name: namespace.to_owned(), near })
    }

    /// There is no pod at all, in this namespace or anywhere.
    pub(super) fn no_pods(&self, namespace: Option<&str>, place: &str) -> ResolveError {
        let unknown = namespace.and_then(|namespace| self.unknown_namespace(namespace, ""));
        unknown.unwrap_or_else(|| ResolveError::NoPodsAtAll { place: place.to_owned() })
    }

    fn service(&self, namespace: &str, name: &str) -> Result<&'a Service, ResolveError> {
        let found =
            self.0.services.iter().find(|service| service.namespace == namespace && service.name == name);
        found.ok_or_else(|| self.unknown_service(namespace, name))
    }

    fn unknown_service(&self, namespace: &str, name: &str) -> ResolveError {
        let full_name = format!("{namespace}/{name}");
        let target = self.untraceable(namespace, name).find_map(|why| match why {
            WhyUntraceable::ExternalName(target) => Some(target.clone()),
            _ => None,
        });
        if let Some(target) = target {
            return ResolveError::ExternalName { service: full_name, target };
        }
        self.unknown_namespace(namespace, name).unwrap_or_else(|| {
            let names: Vec<_> = self.0.services.iter().map(Service::full_name).collect();
            let near = nearest_text(&full_name, "services", names.iter().map(String::as_str));
            ResolveError::Unknown { kind: "service", name: full_name, near }
        })
    }

    /// A Service: its cluster IPs and the addresses of its endpoints, before and after NAT.
    fn resolve_service(&self, service: &Service, port: Option<u16>) -> Result<Resolved, ResolveError> {
        let name = service.full_name();
        if let Some(port) = port.filter(|port| !service.ports.iter().any(|known| known.port == *port)) {
            return Err(no_such_port(service, &Port::Number(port)));
        }
        let pods: Vec<&Pod> =
            self.0.pods.iter().filter(|pod| service.endpoints.contains(&pod.full_name())).collect();
        let mut addresses = service.cluster_ips.clone();
        addresses.extend(pods.iter().flat_map(|pod| pod.ips.iter().copied()));
        if addresses.is_empty() {
            return Err(ResolveError::EmptyService { service: name });
        }
        let mut nodes: Vec<_> = pods.iter().map(|pod| pod.node.clone()).collect();
        nodes.sort_unstable();
        nodes.dedup();
        let what = port.map_or_else(|| format!("svc/{name}"), |port| format!("svc/{name}:{port}"));
        let pods = pods.into_iter().map(Pod::full_name).collect();
        let asked = service.ports.iter().filter(|known| port.is_none_or(|port| known.port == port));
        let service: Vec<ServicePort> = asked.cloned().collect();
        let mut ports: Vec<u16> =
            if port.is_some() { service.iter().flat_map(forms_of).collect() } else { Vec::new() };
        ports.sort_unstable();
        ports.dedup();
        Ok(Resolved { what, addresses, networks: Vec::new(), ports, service, pods, nodes })
    }

    fn node(&self, name: &str) -> Result<Resolved, ResolveError> {
        let Some(node) = self.0.nodes.iter().find(|node| node.name == name) else {
            let near = nearest_text(name, "nodes", self.node_names());
            return Err(ResolveError::Unknown { kind: "node", name: name.to_owned(), near });
        };
        let Node { name, addresses, run: _ } = node;
        if addresses.is_empty() {
            return Err(ResolveError::NodeWithoutAddress { node: name.clone() });
        }
        Ok(Resolved {
            what: format!("node/{name}"),
            addresses: addresses.clone(),
            nodes: vec![name.clone()],
            ..Resolved::default()
        })
    }

    /// An address: itself, unless it belongs to a Service, whose packets continue to another address.
    fn address(&self, ip: IpAddr, port: Option<u16>) -> Resolved {
        let typed = Endpoint::Address { ip, port };
        let ports = port.into_iter().collect();
        let plain = Resolved { what: typed.to_string(), addresses: vec![ip], ports, ..Resolved::default() };
        let named = |name: &str| format!("{typed} ({name})");
        if let Some(pod) = self.0.pods.iter().find(|pod| !pod.host_network && pod.ips.contains(&ip)) {
            let name = pod.full_name();
            return Resolved { what: named(&name), pods: vec![name], nodes: vec![pod.node.clone()], ..plain };
        }
        if let Some(node) = self.0.nodes.iter().find(|node| node.addresses.contains(&ip)) {
            let by_node_port = port.and_then(|port| {
                let has = |known: &ServicePort| known.node_port == Some(port);
                let service = self.0.services.iter().find(|service| service.ports.iter().any(has))?;
                let of = service.ports.iter().find(|known| has(known))?;
                self.resolve_service(service, Some(of.port)).ok()
            });
            if let Some(resolved) = by_node_port {
                return Resolved { what: named(&resolved.what), ..resolved };
            }
            return Resolved {
                what: named(&format!("node/{}", node.name)),
                nodes: vec![node.name.clone()],
                ..plain
            };
        }
        let service = self.0.services.iter().find(|service| service.cluster_ips.contains(&ip));
        if let Some(resolved) = service.and_then(|service| {
            self.resolve_service(service, port).or_else(|_| self.resolve_service(service, None)).ok()
        }) {
            return Resolved { what: named(&resolved.what), ..resolved };
        }
        plain
    }

    fn pod_names(&self) -> Vec<String> {
        self.0.pods.iter().map(Pod::full_name).collect()
    }

    fn node_names(&self) -> impl Iterator<Item = &'a str> {
        self.0.nodes.iter().map(|node| node.name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inventory() -> Inventory {
        crate::inventory::parse(
            "
nodes:
  - {name: node1, addresses: [192.168.56.11]}
  - {name: node2, addresses: [192.168.56.12, 'fd00:56::12']}
  - {name: node3}
pods:
  - {name: pod1, ips: [10.42.0.10], node: node1}
  - {name: pod2, ips: [10.42.0.11], node: node1}
  - {name: pod3, ips: [10.42.1.10, 'fd00:42:1::10'], node: node2}
  - {name: starting, node: node2}
  - {namespace: kube-system, name: proxy, ips: [192.168.56.11], node: node1, host_network: true}
services:
  - name: web
    cluster_ips: [10.96.0.20]
    ports: [{name: http, protocol: tcp, port: 80, target_port: 8080}]
    endpoints: [default/pod1, default/pod3]
  - {name: empty}
",
        )
        .unwrap()
    }

    fn resolved(text: &str) -> Result<Resolved, String> {
        resolve(&text.parse().unwrap(), &inventory(), "default").map_err(|error| error.to_string())
    }

    fn is(what: &str, addresses: &[&str], ports: &[u16], pods: &[&str], nodes: &[&str]) -> Resolved {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let addresses = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        let (what, ports) = (what.to_owned(), ports.to_vec());
        let (pods, nodes) = (own(pods), own(nodes));
        Resolved { what, addresses, ports, pods, nodes, ..Resolved::default() }
    }

    #[test]
    fn every_kind_of_endpoint_is_found() {
        let web = ["10.96.0.20", "10.42.0.10", "10.42.1.10", "fd00:42:1::10"];
        let web_pods = ["default/pod1", "default/pod3"];
        for (text, expected) in [
            ("any", is("any", &[], &[], &[], &["node1", "node2", "node3"])),
            ("pod1", is("default/pod1", &["10.42.0.10"], &[], &["default/pod1"], &["node1"])),
            ("svc/web", is("svc/default/web", &web, &[], &web_pods, &["node1", "node2"])),
            ("svc/web:80", is("svc/default/web:80", &web, &[80, 8080], &web_pods, &["node1", "node2"])),
            ("svc/web:http", is("svc/default/web:80", &web, &[80, 8080], &web_pods, &["node1", "node2"])),
            ("node/node2", is("node/node2", &["192.168.56.12", "fd00:56::12"], &[], &[], &["node2"])),
            (
                "10.42.0.10:80",
                is("10.42.0.10:80 (default/pod1)", &["10.42.0.10"], &[80], &["default/pod1"], &["node1"]),
            ),
            ("192.168.56.11", is("192.168.56.11 (node/node1)", &["192.168.56.11"], &[], &[], &["node1"])),
            (
                "10.96.0.20:80",
                is("10.96.0.20:80 (svc/default/web:80)", &web, &[80, 8080], &web_pods, &["node1", "node2"]),
            ),
            ("8.8.8.8:53", is("8.8.8.8:53", &["8.8.8.8"], &[53], &[], &[])),
        ] {
            let found = resolved(text).map(|found| Resolved { service: Vec::new(), ..found });
            assert_eq!(found, Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_services_port_is_found_in_all_forms() {
        let mut inventory = inventory();
        inventory.services[0].ports[0].node_port = Some(30080);
        let resolved = |text: &str| resolve(&text.parse().unwrap(), &inventory, "default").unwrap();
        assert_eq!(resolved("svc/web").ports_of(80), [80, 8080, 30080]);
        assert_eq!(resolved("svc/web:80").ports, [80, 8080, 30080]);
        assert_eq!(resolved("svc/web").node_ports(), [(6, 30080)]);
        assert_eq!((resolved("svc/web").port_of(6), resolved("svc/web").port_of(17)), (Some(80), None));
        assert_eq!(resolved("192.168.56.11:30080").what, "192.168.56.11:30080 (svc/default/web:80)");
        assert_eq!(resolved("192.168.56.11:30081").what, "192.168.56.11:30081 (node/node1)");
    }

    #[test]
    fn errors_are_one_line() {
        for (text, line) in [
            ("pod9", "there is no pod default/pod9; nearest pods: default/pod1, default/pod2, default/pod3"),
            ("node1", "a node has that name: node/node1"),
            ("web", "a service has that name: svc/default/web"),
            ("defualt/pod9", "there is no namespace defualt; nearest namespaces: default, kube-system"),
            ("kube-system/pod1", "there is no pod kube-system/pod1; nearest pods: default/pod1"),
            ("svc/wbe", "there is no service default/wbe; nearest services: default/web, default/empty"),
            ("node/node9", "there is no node node9; nearest nodes: node1, node2, node3"),
            ("starting", "pod default/starting has no IP address yet"),
            ("kube-system/proxy", "shares node node1's addresses: use node/node1"),
            ("svc/empty", "no cluster IP and no endpoints"),
            ("svc/web:81", "service default/web has no port 81; it has 80/tcp (http)"),
            ("svc/web:https", "service default/web has no port https; it has 80/tcp (http)"),
            ("svc/empty:http", "service default/empty has no port http; it has none"),
            ("node/node3", "node node3 has no address"),
        ] {
            let error = resolved(text).unwrap_err();
            assert!(error.contains(line) && !error.contains('\n'), "{text}: {error}");
        }
    }

    #[test]
    fn an_inventory_without_pods_says_so() {
        let error = resolve(&"pod1".parse().unwrap(), &Inventory::default(), "default").unwrap_err();
        assert_eq!(error.to_string(), "there is no pod default/pod1; there are no pods");
    }

    #[test]
    fn a_pod_on_an_unlisted_node_is_an_error() {
        let mut inventory = inventory();
        inventory.nodes.remove(0);
        let error = resolve(&"pod1".parse().unwrap(), &inventory, "default").unwrap_err();
        assert!(error.to_string().contains("node node1, which the inventory does not list"), "{error}");
    }
}
