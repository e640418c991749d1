//! What an endpoint means in a cluster: addresses, pods and nodes.

use std::net::IpAddr;

use super::endpoint::Endpoint;
use super::model::{Inventory, Node, Pod, Service, ServicePort, Unreached};
use super::nearest::nearest_text;

/// What an endpoint means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// The endpoint in full: `default/pod1`, `svc/shop/web:80`, `node/node1`, `10.0.0.1 (default/pod1)`, `any`.
    pub what: String,
    /// Its addresses; none means any.
    pub addresses: Vec<IpAddr>,
    /// Its ports; none means all. A Service's is there in all its forms: at the Service's address, at the endpoints
    /// and at the nodes.
    pub ports: Vec<u16>,
    /// The ports of the Service that it is, or of that one of them which was asked for.
    pub service: Vec<ServicePort>,
    /// Full names of the pods that it is, or is served by.
    pub pods: Vec<String>,
    /// Names of the nodes where its packets begin or end. None: an address outside of the cluster, whose packets
    /// pass the nodes of the other end.
    pub nodes: Vec<String>,
}

/// Why an endpoint means nothing that can be traced. Each is one line that says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// Nothing of that name.
    #[error("there is no {kind} {name}; {near}")]
    Unknown {
        /// `pod`, `service`, `node` or `namespace`.
        kind: &'static str,
        /// What was asked for, in full.
        name: String,
        /// The nearest names.
        near: String,
    },
    /// A pod without an address.
    #[error(
        "pod {pod} has no IP address yet: wait until it runs (`kubectl get pod -o wide`), then try again"
    )]
    NoAddress {
        /// Its full name.
        pod: String,
    },
    /// A pod without a node.
    #[error(
        "pod {pod} has no node yet{}: wait until it runs (`kubectl describe pod` tells more), then try again",
        .words.as_ref().map(|words| format!(" ({words})")).unwrap_or_default()
    )]
    Unscheduled {
        /// Its full name.
        pod: String,
        /// What the scheduler says.
        words: Option<String>,
    },
    /// A pod that has ended.
    #[error("pod {pod} has completed and has no network any more: name one that runs")]
    Completed {
        /// Its full name.
        pod: String,
    },
    /// A pod without a network of its own.
    #[error("pod {pod} is on the host network and shares node {node}'s addresses: use node/{node}")]
    HostNetwork {
        /// Its full name.
        pod: String,
        /// Its node.
        node: String,
    },
    /// A pod on a node that nothing is known of.
    #[error("pod {pod} is on node {node}, which the inventory does not list; {near}")]
    UnknownNode {
        /// Its full name.
        pod: String,
        /// Its node.
        node: String,
        /// The nearest names.
        near: String,
    },
    /// A service that no packet can go to.
    #[error("service {service} has neither a cluster address nor endpoints: nothing can reach it")]
    EmptyService {
        /// Its full name.
        service: String,
    },
    /// A service outside of the cluster.
    #[error(
        "service {service} is another name for {target}, which is outside of the cluster (ExternalName): look its \
         address up and name that, as IP[:PORT]"
    )]
    ExternalName {
        /// Its full name.
        service: String,
        /// The name outside.
        target: String,
    },
    /// A service without that port.
    #[error("service {service} has no port {port}; it has {ports}")]
    NoSuchPort {
        /// Its full name.
        service: String,
        /// What was asked for.
        port: u16,
        /// What there is.
        ports: String,
    },
    /// A node without an address.
    #[error("node {node} has no address in the inventory: add `addresses`")]
    NodeWithoutAddress {
        /// Its name.
        node: String,
    },
}

/// Says what an endpoint means; names without a namespace are looked for in `namespace`.
///
/// # Errors
/// If there is no such thing, or if it has no addresses of its own.
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
            cluster.behind(service, *port)
        }
        Endpoint::Node { name } => cluster.node(name),
        Endpoint::Address { ip, port } => Ok(cluster.address(*ip, *port)),
    }
}

struct Cluster<'a>(&'a Inventory);

impl Resolved {
    /// The port on this side in all its forms.
    #[must_use]
    pub fn ports_of(&self, port: u16) -> Vec<u16> {
        let forms = self.service.iter().filter(|known| [known.port, known.target_port].contains(&port));
        let mut ports = vec![port];
        ports.extend(forms.flat_map(forms_of));
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    /// The port that a packet of this IP protocol is sent to, if that is known.
    #[must_use]
    pub fn port_of(&self, protocol: u8) -> Option<u16> {
        let of_service = self.service.iter().find(|known| known.protocol_number() == Some(protocol));
        of_service.map(|known| known.port).or_else(|| self.ports.first().copied())
    }

    /// IP protocol number and port of each port that a Service has at the nodes.
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
            return Err(
                match self.untraceable(namespace, name, |what| {
                    matches!(what, Unreached::UnscheduledPod(_) | Unreached::CompletedPod)
                }) {
                    Some(Unreached::UnscheduledPod(words)) => {
                        ResolveError::Unscheduled { pod: full_name, words: words.clone() }
                    }
                    Some(_) => ResolveError::Completed { pod: full_name },
                    None => self.unknown_pod(namespace, name),
                },
            );
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

    fn untraceable(
        &self,
        namespace: &str,
        name: &str,
        kind: impl Fn(&Unreached) -> bool,
    ) -> Option<&'a Unreached> {
        let mut things = self.0.untraceable.iter();
        things
            .find(|thing| thing.namespace == namespace && thing.name == name && kind(&thing.what))
            .map(|thing| &thing.what)
    }

    /// A name without its kind may have been another kind's: those of exactly this name are offered too.
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

    /// If nothing is in the namespace, and nothing outside of it has the name, it is the namespace that is wrong.
    fn unknown_namespace(&self, namespace: &str, name: &str) -> Option<ResolveError> {
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
        // Without any namespace there is nothing to choose from: that there are no pods says more.
        if names.is_empty() {
            return None;
        }
        let near = nearest_text(namespace, "namespaces", names.into_iter());
        Some(ResolveError::Unknown { kind: "namespace", name: namespace.to_owned(), near })
    }

    fn service(&self, namespace: &str, name: &str) -> Result<&'a Service, ResolveError> {
        let found =
            self.0.services.iter().find(|service| service.namespace == namespace && service.name == name);
        let outside = self.untraceable(namespace, name, |what| matches!(what, Unreached::ExternalName(_)));
        if let (None, Some(Unreached::ExternalName(target))) = (found, outside) {
            let service = format!("{namespace}/{name}");
            return Err(ResolveError::ExternalName { service, target: target.clone() });
        }
        found.ok_or_else(|| {
            self.unknown_namespace(namespace, name).unwrap_or_else(|| {
                let name = format!("{namespace}/{name}");
                let names: Vec<_> = self.0.services.iter().map(Service::full_name).collect();
                let near = nearest_text(&name, "services", names.iter().map(String::as_str));
                ResolveError::Unknown { kind: "service", name, near }
            })
        })
    }

    /// A service is its cluster addresses and those of its endpoints: before and after the translation.
    fn behind(&self, service: &Service, port: Option<u16>) -> Result<Resolved, ResolveError> {
        let name = service.full_name();
        if let Some(port) = port.filter(|port| !service.ports.iter().any(|known| known.port == *port)) {
            let ports: Vec<_> =
                service.ports.iter().map(|port| format!("{}/{}", port.port, port.protocol)).collect();
            let ports = if ports.is_empty() { "none".to_owned() } else { ports.join(", ") };
            return Err(ResolveError::NoSuchPort { service: name, port, ports });
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
        Ok(Resolved { what, addresses, ports, service, pods, nodes })
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

    /// An address stays this one address, except a service's: its packets go on to another.
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
                self.behind(service, Some(of.port)).ok()
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
        if let Some(resolved) = service
            .and_then(|service| self.behind(service, port).or_else(|_| self.behind(service, None)).ok())
        {
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
    ports: [{protocol: tcp, port: 80, target_port: 8080}]
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
        Resolved { what, addresses, ports, pods: own(pods), nodes: own(nodes), service: Vec::new() }
    }

    #[test]
    fn everything_is_found() {
        let web = ["10.96.0.20", "10.42.0.10", "10.42.1.10", "fd00:42:1::10"];
        let web_pods = ["default/pod1", "default/pod3"];
        for (text, expected) in [
            ("any", is("any", &[], &[], &[], &["node1", "node2", "node3"])),
            ("pod1", is("default/pod1", &["10.42.0.10"], &[], &["default/pod1"], &["node1"])),
            ("svc/web", is("svc/default/web", &web, &[], &web_pods, &["node1", "node2"])),
            ("svc/web:80", is("svc/default/web:80", &web, &[80, 8080], &web_pods, &["node1", "node2"])),
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
    fn a_services_port_is_known_in_all_its_forms() {
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
    fn what_cannot_be_traced_is_told_in_one_line() {
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
            ("svc/empty", "neither a cluster address nor endpoints"),
            ("svc/web:81", "service default/web has no port 81; it has 80/tcp"),
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
    fn a_pod_on_an_unlisted_node_is_told() {
        let mut inventory = inventory();
        inventory.nodes.remove(0);
        let error = resolve(&"pod1".parse().unwrap(), &inventory, "default").unwrap_err();
        assert!(error.to_string().contains("node node1, which the inventory does not list"), "{error}");
    }
}
