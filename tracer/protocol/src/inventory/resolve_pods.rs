//! Endpoints of several pods: what belongs to a Deployment, what has certain labels, networks, and lists of endpoints.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::endpoint::Endpoint;
use super::model::{Inventory, Pod};
use super::nearest::nearest_text;
use super::resolve::{Cluster, Resolved, resolve};
use super::resolve_error::ResolveError;
use super::selector::Selector;
use super::workload::Workload;

/// How many ends a title names.
const NAMED: usize = 3;

/// The pods of a workload.
pub(super) fn workload(
    cluster: &Cluster<'_>,
    kind: Workload,
    namespace: &str,
    name: &str,
) -> Result<Resolved, ResolveError> {
    let owned = owned(cluster.0, kind).filter(|(pod, owner)| pod.namespace == namespace && *owner == name);
    let pods: Vec<_> = owned.map(|(pod, _)| pod).collect();
    if pods.is_empty() {
        return Err(cluster
            .unknown_namespace(namespace, name)
            .unwrap_or_else(|| no_pods(cluster.0, kind, &format!("{namespace}/{name}"))));
    }
    of_pods(&format!("{}/{namespace}/{name}", kind.short()), &pods)
}

/// Pods of these labels, in this namespace or in all.
pub(super) fn labelled(
    cluster: &Cluster<'_>,
    selector: &Selector,
    namespace: Option<&str>,
) -> Result<Resolved, ResolveError> {
    let pods =
        cluster.0.pods.iter().filter(|pod| namespace.is_none_or(|namespace| pod.namespace == namespace));
    let pods: Vec<_> = pods.filter(|pod| selector.matches(&pod.labels)).collect();
    if pods.is_empty() {
        let (place, option) = match namespace {
            Some(namespace) => (format!("in namespace {namespace}"), format!("-n {namespace}")),
            None => ("of the cluster".to_owned(), "-A".to_owned()),
        };
        if selector.is_all() {
            return Err(cluster.no_pods(namespace, &place));
        }
        return Err(ResolveError::NoLabels { place, selector: selector.to_string(), option });
    }
    let what = match namespace {
        None if selector.is_all() => "all pods".to_owned(),
        Some(namespace) if selector.is_all() => format!("pods of {namespace}"),
        None => format!("pods {selector}"),
        Some(namespace) => format!("pods {namespace}/{selector}"),
    };
    of_pods(&what, &pods)
}

/// A network: what is in it may be anywhere.
pub(super) fn network(cluster: &Cluster<'_>, network: IpNet) -> Resolved {
    Resolved {
        what: network.to_string(),
        networks: vec![network],
        nodes: cluster.0.nodes.iter().map(|node| node.name.clone()).collect(),
        ..Resolved::default()
    }
}

/// All of these together.
pub(super) fn merged(all: Vec<Resolved>) -> Result<Resolved, ResolveError> {
    let mut all = all.into_iter();
    let Some(mut merged) = all.next() else { return Ok(Resolved::default()) };
    let (mut names, mut is_any) = (vec![merged.what.clone()], is_any(&merged));
    for next in all {
        if next.ports != merged.ports {
            return Err(ResolveError::DifferentPorts { one: merged.what, other: next.what });
        }
        is_any |= self::is_any(&next);
        names.push(next.what);
        extend(&mut merged.addresses, next.addresses);
        extend(&mut merged.networks, next.networks);
        extend(&mut merged.service, next.service);
        extend(&mut merged.pods, next.pods);
        extend(&mut merged.nodes, next.nodes);
    }
    if is_any {
        merged.addresses.clear();
        merged.networks.clear();
    } else if !merged.networks.is_empty() {
        let hosts: Vec<_> = std::mem::take(&mut merged.addresses).into_iter().map(IpNet::from).collect();
        extend(&mut merged.networks, hosts);
    }
    merged.what = match names.len().saturating_sub(NAMED) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names[..NAMED].join(", ")),
    };
    Ok(merged)
}

fn is_any(resolved: &Resolved) -> bool {
    resolved.addresses.is_empty() && resolved.networks.is_empty()
}

fn extend<T: PartialEq>(all: &mut Vec<T>, more: Vec<T>) {
    for item in more {
        if !all.contains(&item) {
            all.push(item);
        }
    }
}

/// Looks up an endpoint in a cluster that changes. Of several, those count that are there.
///
/// # Errors
///
/// If none is there.
pub fn present(
    endpoint: &Endpoint,
    inventory: &Inventory,
    namespace: &str,
) -> Result<Resolved, ResolveError> {
    let Endpoint::Several(endpoints) = endpoint else { return resolve(endpoint, inventory, namespace) };
    let (mut found, mut missing) = (Vec::new(), None);
    for endpoint in endpoints {
        match resolve(endpoint, inventory, namespace) {
            Ok(resolved) => found.push(resolved),
            Err(error) => missing = Some(error),
        }
    }
    match missing {
        Some(error) if found.is_empty() => Err(error),
        _ => merged(found),
    }
}

/// Puts the namespace to names without one, wherever in the cluster they are.
///
/// # Errors
///
/// If a name is in several namespaces.
pub fn locate(endpoint: Endpoint, inventory: &Inventory) -> Result<Endpoint, ResolveError> {
    Ok(match endpoint {
        Endpoint::Pod { namespace: None, name } => {
            let pods = inventory.pods.iter().filter(|pod| pod.name == name).map(|pod| &pod.namespace);
            let gone = inventory.untraceable.iter().filter(|other| other.name == name);
            let namespace = only("pod", "pod", &name, pods.chain(gone.map(|other| &other.namespace)))?;
            Endpoint::Pod { namespace, name }
        }
        Endpoint::Service { namespace: None, name, port } => {
            let services = inventory.services.iter().filter(|service| service.name == name);
            let gone = inventory.untraceable.iter().filter(|other| other.name == name);
            let namespaces = services.map(|service| &service.namespace);
            let namespace =
                only("service", "svc", &name, namespaces.chain(gone.map(|other| &other.namespace)))?;
            Endpoint::Service { namespace, name, port }
        }
        Endpoint::Workload { kind, namespace: None, name } => {
            let pods = owned(inventory, kind).filter(|(_, owner)| *owner == name);
            let namespace = only(kind.name(), kind.short(), &name, pods.map(|(pod, _)| &pod.namespace))?;
            Endpoint::Workload { kind, namespace, name }
        }
        Endpoint::Labels { selector, .. } => Endpoint::Labels { everywhere: true, selector },
        Endpoint::Several(endpoints) => {
            let all: Result<_, _> =
                endpoints.into_iter().map(|endpoint| locate(endpoint, inventory)).collect();
            Endpoint::Several(all?)
        }
        other => other,
    })
}

/// The only namespace; `None` if there is none, so that looking it up says so.
fn only<'a>(
    kind: &'static str,
    short: &str,
    name: &str,
    namespaces: impl Iterator<Item = &'a String>,
) -> Result<Option<String>, ResolveError> {
    let all: BTreeSet<_> = namespaces.map(String::as_str).collect();
    let first = all.first().copied();
    match (first, all.len()) {
        (Some(first), 2..) => Err(ResolveError::Ambiguous {
            kind,
            name: name.to_owned(),
            example: format!("{short}/{first}/{name}"),
            namespaces: all.into_iter().collect::<Vec<_>>().join(", "),
        }),
        _ => Ok(first.map(str::to_owned)),
    }
}

/// Pods that belong to something of a kind, and its name.
fn owned(inventory: &Inventory, kind: Workload) -> impl Iterator<Item = (&Pod, &str)> {
    inventory.pods.iter().filter_map(move |pod| {
        let (of, name) = pod.owner.as_deref()?.split_once('/')?;
        (Workload::named(of) == Some(kind)).then_some((pod, name))
    })
}

fn no_pods(inventory: &Inventory, kind: Workload, name: &str) -> ResolveError {
    let known: BTreeSet<_> =
        owned(inventory, kind).map(|(pod, owner)| format!("{}/{owner}", pod.namespace)).collect();
    let near = nearest_text(name, &format!("{}s", kind.name()), known.iter().map(String::as_str));
    ResolveError::NoPods { kind: kind.name(), name: name.to_owned(), near }
}

/// Pods that have addresses of their own.
fn of_pods(what: &str, pods: &[&Pod]) -> Result<Resolved, ResolveError> {
    let own: Vec<_> = pods.iter().filter(|pod| !pod.host_network).collect();
    if own.is_empty() {
        return Err(ResolveError::OnHostNetwork { name: what.to_owned() });
    }
    let what = match pods.len() - own.len() {
        0 => what.to_owned(),
        left_out => format!("{what} (without {left_out} on the host network)"),
    };
    let mut resolved = Resolved { what, ..Resolved::default() };
    for pod in own.into_iter().filter(|pod| !pod.ips.is_empty()) {
        resolved.addresses.extend(&pod.ips);
        resolved.pods.push(pod.full_name());
        extend(&mut resolved.nodes, vec![pod.node.clone()]);
    }
    if resolved.addresses.is_empty() {
        return Err(ResolveError::NoAddresses { name: resolved.what });
    }
    resolved.nodes.sort_unstable();
    Ok(resolved)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inventory() -> Inventory {
        crate::inventory::parse(
            "
nodes: [{name: node1, addresses: [192.168.56.11]}, {name: node2, addresses: [192.168.56.12]}]
pods:
  - {name: web-a, ips: [10.42.0.10], node: node1, owner: deployment/web, labels: {app: web, tier: front}}
  - {name: web-b, ips: [10.42.1.10], node: node2, owner: deployment/web, labels: {app: web, tier: front}}
  - {name: db-0, ips: [10.42.1.11], node: node2, owner: statefulset/db, labels: {app: db}}
  - {name: proxy-x, ips: [192.168.56.11], node: node1, host_network: true, owner: daemonset/proxy}
  - {name: new, node: node1, owner: job/new, labels: {app: new}}
  - {namespace: shop, name: db-0, ips: [10.42.1.12], node: node2, owner: statefulset/db, labels: {app: db}}
  - {namespace: shop, name: cart, ips: [10.42.1.13], node: node2, labels: {app: web}}
services:
  - name: web
    cluster_ips: [10.96.0.20]
    ports: [{protocol: tcp, port: 80, target_port: 8080}]
    endpoints: [default/web-a]
  - {namespace: shop, name: web, cluster_ips: [10.96.0.21]}
",
        )
        .unwrap()
    }

    fn several(texts: &[&str]) -> Endpoint {
        Endpoint::Several(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    fn labels(selector: &str, everywhere: bool) -> Endpoint {
        Endpoint::Labels { everywhere, selector: selector.parse().unwrap() }
    }

    fn resolved(endpoint: &Endpoint) -> Resolved {
        resolve(endpoint, &inventory(), "default").unwrap()
    }

    fn error(endpoint: &Endpoint) -> String {
        let error = resolve(endpoint, &inventory(), "default").unwrap_err().to_string();
        assert!(!error.contains('\n'), "{error}");
        error
    }

    #[test]
    fn workloads_and_labels_are_their_pods() {
        for (endpoint, what, pods) in [
            ("deploy/web".parse().unwrap(), "deploy/default/web", "default/web-a default/web-b"),
            ("statefulset/shop/db".parse().unwrap(), "sts/shop/db", "shop/db-0"),
            (labels("app=web", false), "pods default/app=web", "default/web-a default/web-b"),
            (labels("app=web", true), "pods app=web", "default/web-a default/web-b shop/cart"),
            (
                labels("app in (db,web),!tier", true),
                "pods app in (db,web),!tier",
                "default/db-0 shop/db-0 shop/cart",
            ),
        ] {
            let Resolved { what: title, pods: found, addresses, .. } = resolved(&endpoint);
            assert_eq!((title.as_str(), found.join(" ").as_str()), (what, pods));
            assert_eq!(addresses.len(), found.len());
        }
        assert_eq!(resolved(&"deploy/web".parse().unwrap()).nodes, ["node1", "node2"]);
    }

    #[test]
    fn what_has_no_pods_is_an_error_that_says_why() {
        for (endpoint, part) in [
            (
                "deploy/wbe".parse().unwrap(),
                "no deployment default/wbe with pods; nearest deployments: default/web",
            ),
            ("job/db".parse().unwrap(), "there is no job default/db with pods; nearest jobs: default/new"),
            ("deploy/shpo/cart2".parse().unwrap(), "no namespace shpo; nearest namespaces: shop, default"),
            ("ds/proxy".parse().unwrap(), "pods of ds/default/proxy are on the host network"),
            ("job/new".parse().unwrap(), "no pod of job/default/new has an IP address yet"),
            (
                labels("app=x", false),
                "no pod in namespace default has labels that match app=x; `kubectl get pods -n default",
            ),
            (
                labels("app=x", true),
                "no pod of the cluster has labels that match app=x; `kubectl get pods -A",
            ),
        ] {
            assert!(error(&endpoint).contains(part), "{}", error(&endpoint));
        }
    }

    #[test]
    fn several_ends_are_one_side() {
        let all = resolved(&several(&["web-a", "deploy/web", "svc/web", "shop/cart"]));
        assert_eq!(all.what, "default/web-a, deploy/default/web, svc/default/web and 1 more");
        assert_eq!(all.pods, ["default/web-a", "default/web-b", "shop/cart"]);
        assert_eq!(all.addresses.len(), 4, "{:?}", all.addresses);
        let net = resolved(&several(&["web-a", "10.0.0.0/8"]));
        let networks: Vec<_> = net.networks.iter().map(ToString::to_string).collect();
        assert_eq!((net.addresses.len(), networks.join(" ").as_str()), (0, "10.0.0.0/8 10.42.0.10/32"));
        let any = resolved(&several(&["any", "10.0.0.0/8", "web-a"]));
        assert!(any.addresses.is_empty() && any.networks.is_empty(), "{any:?}");
        assert!(error(&several(&["web-a", "svc/web:80"])).contains("different ports"));
        assert_eq!(resolved(&several(&["svc/web:80", "10.96.0.20:80"])).ports, [80, 8080]);
    }

    #[test]
    fn of_several_those_count_that_are_there() {
        let endpoint = several(&["web-a", "gone"]);
        assert!(error(&endpoint).contains("there is no pod default/gone"));
        assert_eq!(present(&endpoint, &inventory(), "default").unwrap().what, "default/web-a");
        assert!(present(&several(&["gone", "too"]), &inventory(), "default").is_err());
    }

    #[test]
    fn names_are_found_in_all_namespaces() {
        let located = |text: &str| locate(text.parse().unwrap(), &inventory());
        assert_eq!(located("cart").unwrap().to_string(), "shop/cart");
        assert_eq!(located("deploy/web").unwrap().to_string(), "deploy/default/web");
        assert_eq!(located("nowhere").unwrap().to_string(), "nowhere");
        assert_eq!(located("shop/db-0").unwrap().to_string(), "shop/db-0");
        assert_eq!(
            located("db-0").unwrap_err().to_string(),
            "pod db-0 is in several namespaces (default, shop): write which, as in pod/default/db-0"
        );
        assert!(located("svc/web").unwrap_err().to_string().contains("as in svc/default/web"));
        let all = locate(several(&["cart", "10.0.0.1"]), &inventory()).unwrap();
        assert_eq!(all.to_string(), "shop/cart, 10.0.0.1");
    }
}
