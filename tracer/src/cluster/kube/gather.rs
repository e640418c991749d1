//! Lists everything that an inventory needs, in parallel.

use super::access::Api;
use super::error::ApiError;
use super::known::{Change, Known};
use super::list::{ENDPOINT_SLICES, ENDPOINTS, Listed, NODES, PODS, SERVICES, list};
use super::machine::Machine;
use super::objects::{EndpointSlice, Endpoints, Node, Pod, Service};
use super::watch::{Versions, Watch};
use podtrace_protocol::inventory::Inventory;

/// A cluster as its API describes it.
#[derive(Clone, Debug)]
pub struct Described {
    /// The inventory.
    pub inventory: Inventory,
    /// What was left out and why, one line each.
    pub notes: Vec<String>,
    /// Watches the changes from here on.
    pub watch: Watch,
}

/// The endpoints of Services: slices, or on old servers endpoints objects.
enum Behind {
    Slices(Listed<EndpointSlice>),
    Endpoints(Listed<Endpoints>),
}

/// Lists the cluster's objects. `machine` identifies the node that podtrace runs on, which needs no agent pod.
///
/// # Errors
///
/// If the server cannot be reached or denies a request. All missing permissions are in one error.
pub async fn describe(api: &Api, machine: &Machine) -> Result<Described, ApiError> {
    let (nodes, pods, services, behind) = tokio::join!(
        list::<Node>(api, NODES),
        list::<Pod>(api, PODS),
        list::<Service>(api, SERVICES),
        behind(api),
    );
    // All missing permissions in one error, so that they can be granted at once.
    let ((nodes, pods), (services, behind)) = both(both(nodes, pods), both(services, behind))?;
    let mut known = Known::default();
    known.nodes = nodes.items;
    known.pods(Change::All(pods.items));
    known.services(Change::All(services.items));
    let (has_endpoint_slices, endpoints) = match behind {
        Behind::Slices(Listed { items, version }) => {
            known.slices(Change::All(items));
            (true, version)
        }
        Behind::Endpoints(Listed { items, version }) => {
            known.endpoints(Change::All(items));
            (false, version)
        }
    };
    let versions = Versions { pods: pods.version, services: services.version, endpoints };
    let (inventory, notes) = known.inventory(machine);
    let watch = Watch { api: api.clone(), machine: machine.clone(), known, versions, has_endpoint_slices };
    Ok(Described { inventory, notes, watch })
}

fn both<A, B>(one: Result<A, ApiError>, other: Result<B, ApiError>) -> Result<(A, B), ApiError> {
    match (one, other) {
        (Ok(one), Ok(other)) => Ok((one, other)),
        (Err(one), Err(other)) => Err(one.and(other)),
        (Err(refusal), _) | (_, Err(refusal)) => Err(refusal),
    }
}

async fn behind(api: &Api) -> Result<Behind, ApiError> {
    match list(api, ENDPOINT_SLICES).await {
        Ok(slices) => Ok(Behind::Slices(slices)),
        Err(ApiError::NotFound { .. }) => list(api, ENDPOINTS).await.map(Behind::Endpoints),
        Err(refusal) => Err(refusal),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::samples::{self, Server, cluster, pod};
    use super::*;
    use podtrace_protocol::inventory::{Endpoint, Run, resolve};

    fn node1() -> Machine {
        Machine {
            hostname: "node1".to_owned(),
            addresses: vec!["192.168.56.11".parse().unwrap()],
            boot_id: "b1".to_owned(),
        }
    }

    async fn described(server: &Server) -> Described {
        describe(&server.api(), &node1()).await.unwrap()
    }

    async fn refusal(server: &Server) -> String {
        let refusal = describe(&server.api(), &node1()).await.unwrap_err().to_string();
        assert!(!refusal.contains('\n'), "{refusal}");
        refusal
    }

    #[tokio::test]
    async fn names_resolve() {
        let Described { inventory, notes, .. } = described(&cluster()).await;
        let addresses = |text: &str| {
            let resolved = resolve(&text.parse().unwrap(), &inventory, "default").unwrap();
            (
                resolved.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
                resolved.nodes.join(" "),
            )
        };
        for (text, ips, nodes) in [
            ("pod1", "10.42.0.10", "node1"),
            ("default/pod3", "10.42.1.10 fd00:42:1::10", "node2"),
            ("svc/web", "10.96.0.20 10.42.0.10 10.42.1.10 fd00:42:1::10", "node1 node2"),
            ("deploy/api", "10.42.0.11", "node1"),
            ("svc/web:metrics", "10.96.0.20 10.42.0.10 10.42.1.10 fd00:42:1::10", "node1 node2"),
            ("svc/web:9090", "10.96.0.20 10.42.0.10 10.42.1.10 fd00:42:1::10", "node1 node2"),
            ("svc/headless", "10.42.0.11", "node1"),
            ("svc/old", "10.96.0.21", ""),
            ("node/node1", "192.168.56.11 203.0.113.1", "node1"),
            ("10.42.0.11", "10.42.0.11", "node1"),
        ] {
            assert_eq!(addresses(text), (ips.to_owned(), nodes.to_owned()), "{text}");
        }
        assert_eq!(
            notes,
            ["1 endpoints of service default/web are not pods: podtrace does not know their addresses"]
        );
    }

    #[tokio::test]
    async fn labels_are_known() {
        let Described { inventory, .. } = described(&cluster()).await;
        let labels = Endpoint::Labels { everywhere: false, selector: "app in (api)".parse().unwrap() };
        assert_eq!(resolve(&labels, &inventory, "default").unwrap().pods, ["default/pod2"]);
    }

    #[tokio::test]
    async fn ports_are_those_of_the_endpoints() {
        let Described { inventory, .. } = described(&cluster()).await;
        let web = inventory.services.iter().find(|service| service.name == "web").unwrap();
        let ports: Vec<_> = web
            .ports
            .iter()
            .map(|port| (port.protocol.as_str(), port.port, port.target_port, port.node_port))
            .collect();
        assert_eq!(ports, [("tcp", 80, 8080, Some(30080)), ("tcp", 9090, 9091, None)]);
    }

    #[tokio::test]
    async fn untraceable_objects_have_a_reason() {
        let Described { inventory, .. } = described(&cluster()).await;
        for (text, part) in [
            ("waiting", "has no node yet (0/2 nodes are available: 2 Insufficient cpu.): wait until it runs"),
            ("starting", "has no IP address yet"),
            ("job-x7x2k", "pod default/job-x7x2k has completed"),
            ("proxy", "on the host network and shares node node1's addresses: use node/node1"),
            ("ds/proxy", "pods of ds/default/proxy are on the host network"),
            ("deploy/pod1", "no deployment default/pod1 with pods; nearest deployments: default/api"),
            ("svc/shop", "stands for shop.example.com outside of the cluster (ExternalName)"),
            ("svc/wbe", "nearest services: default/web"),
        ] {
            let error = resolve(&text.parse().unwrap(), &inventory, "default").unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[tokio::test]
    async fn all_other_machines_are_reached_by_the_api() {
        let Described { inventory, .. } = described(&cluster()).await;
        let runs: Vec<_> = inventory.nodes.iter().map(|node| (node.name.as_str(), &node.run)).collect();
        assert_eq!(runs, [("node1", &Run::Here), ("node2", &Run::Kubernetes)]);
    }

    #[tokio::test]
    async fn without_slices_endpoints_give_the_same() {
        let slices = "/apis/discovery.k8s.io/v1/endpointslices";
        let old = cluster().without(slices);
        let web = |described: Described| {
            described.inventory.services.into_iter().find(|service| service.name == "web").unwrap()
        };
        assert_eq!(web(described(&old).await), web(described(&cluster()).await));
        assert!(old.asked().iter().any(|asked| asked.starts_with("/api/v1/endpoints?")));
        let new = cluster();
        described(&new).await;
        assert!(
            !new.asked().iter().any(|asked| asked.starts_with("/api/v1/endpoints?")),
            "{:?}",
            new.asked()
        );
    }

    fn many_pods() -> Server {
        let pods = (0..1_203)
            .map(|n| pod(&format!("p{n}"), "node2", &format!("10.43.{}.{}", n / 250, n % 250), "Running"));
        cluster()
            .with("/api/v1/pods", pods.collect())
            .with("/apis/discovery.k8s.io/v1/endpointslices", Vec::new())
    }

    #[tokio::test]
    async fn long_lists_come_in_pages() {
        let server = many_pods();
        assert_eq!(described(&server).await.inventory.pods.len(), 1_203);
        let asked = server.asked();
        let pages: Vec<_> = asked.iter().filter(|asked| asked.starts_with("/api/v1/pods")).collect();
        assert_eq!(
            pages,
            [
                "/api/v1/pods?&limit=500",
                "/api/v1/pods?&limit=500&continue=500",
                "/api/v1/pods?&limit=500&continue=1000"
            ]
        );
    }

    #[tokio::test]
    async fn a_list_that_expires_half_way_is_fetched_again() {
        let server = many_pods().forgetting_after(2);
        assert_eq!(described(&server).await.inventory.pods.len(), 1_203);
        assert!(server.asked().iter().any(|asked| asked == "/api/v1/pods?"), "{:?}", server.asked());
    }

    #[tokio::test]
    async fn each_missing_permission_is_named() {
        for (path, permission) in [
            ("/api/v1/nodes", "list nodes in the whole cluster"),
            ("/api/v1/pods", "list pods in the whole cluster"),
            ("/api/v1/services", "list services in the whole cluster"),
            (
                "/apis/discovery.k8s.io/v1/endpointslices",
                "list endpointslices.discovery.k8s.io in the whole cluster",
            ),
        ] {
            let words = "User \"jane\" cannot list resource";
            let error = refusal(&cluster().refusing(path, 403, words)).await;
            assert!(
                error.starts_with(&format!(
                    "the Kubernetes API at 10.0.0.1:6443 does not let you {permission}: {words}"
                )),
                "{error}"
            );
            assert!(
                error.contains("kubectl create clusterrolebinding podtrace-YOU --clusterrole=podtrace-names"),
                "{error}"
            );
        }
    }

    #[tokio::test]
    async fn all_missing_permissions_are_named_at_once() {
        let server = cluster().refusing("/api/v1/nodes", 403, "no").refusing("/api/v1/pods", 403, "no");
        let error = refusal(&server).await;
        assert!(
            error.contains("list nodes in the whole cluster, nor list pods in the whole cluster"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn rejected_credentials_get_advice() {
        let error = refusal(&cluster().refusing("/api/v1/pods", 401, "Unauthorized")).await;
        assert_eq!(
            error,
            "the Kubernetes API at 10.0.0.1:6443 rejects your credentials (Unauthorized): log in to the cluster again"
        );
    }

    #[tokio::test]
    async fn a_server_in_trouble_is_quoted() {
        let error = refusal(&cluster().refusing("/api/v1/pods", 500, "etcd is on fire")).await;
        assert_eq!(
            error,
            "the Kubernetes API at 10.0.0.1:6443 could not list pods in the whole cluster: 500 etcd is on fire"
        );
    }

    #[tokio::test]
    async fn an_answer_that_is_not_a_list_is_an_error() {
        let server = cluster().with("/api/v1/pods", vec![json!("a string")]);
        assert!(refusal(&server).await.contains("cannot parse the answer"));
    }

    #[tokio::test]
    async fn invalid_names_are_left_out() {
        let server = cluster()
            .with("/api/v1/nodes", vec![samples::node("a\u{1b}[2J", &[], "")])
            .with("/api/v1/pods", vec![pod("p/../x", "node1", "10.0.0.1", "Running")]);
        let Described { inventory, notes, .. } = described(&server).await;
        assert!(inventory.nodes.is_empty() && inventory.pods.is_empty());
        assert_eq!(notes[0], "left out node \"\"/\"a\\u{1b}[2J\": invalid name");
    }

    #[tokio::test]
    async fn an_unreachable_server_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config");
        let config = json!({
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{address}")}}],
            "contexts": [{"name": "c", "context": {"cluster": "c"}}],
            "current-context": "c",
        });
        std::fs::write(&file, config.to_string()).unwrap();
        let api = Api::by_kubeconfig(&[file], None).await.unwrap();
        let error = describe(&api, &node1()).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot reach the Kubernetes API at {address}: ")), "{error}");
        assert!(error.contains("refused") && error.contains("--kubeconfig"), "{error}");
    }
}
