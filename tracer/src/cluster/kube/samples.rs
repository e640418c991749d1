//! A fake API server for unit tests: a tower service, without a network.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use super::access::Api;

/// Status and body of answers, by path.
type Answers = BTreeMap<&'static str, VecDeque<(u16, String)>>;

/// Lists by path, and what was asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Server {
    lists: BTreeMap<&'static str, Vec<Value>>,
    refused: BTreeMap<&'static str, (u16, String)>,
    /// Number of pages after which a paged list expires.
    forgets_after: Option<usize>,
    asked: Arc<Mutex<Vec<String>>>,
    /// Answers to watches by path, one after the other; then the watch stays open without events.
    watched: Arc<Mutex<Answers>>,
}

impl Server {
    pub(super) fn with(mut self, path: &'static str, items: Vec<Value>) -> Self {
        self.lists.insert(path, items);
        self
    }

    pub(super) fn without(mut self, path: &'static str) -> Self {
        self.lists.remove(path);
        self
    }

    pub(super) fn refusing(mut self, path: &'static str, code: u16, message: &str) -> Self {
        self.refused.insert(path, (code, message.to_owned()));
        self
    }

    pub(super) fn forgetting_after(mut self, pages: usize) -> Self {
        self.forgets_after = Some(pages);
        self
    }

    /// Answers the next watch of this path with these events.
    pub(super) fn sending(self, path: &'static str, events: &[Value]) -> Self {
        let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
        self.watched.lock().unwrap().entry(path).or_default().push_back((200, lines));
        self
    }

    /// Denies the next watch of this path.
    pub(super) fn denying(self, path: &'static str, code: u16, message: &str) -> Self {
        let answer = (code, status(code, message).to_string());
        self.watched.lock().unwrap().entry(path).or_default().push_back(answer);
        self
    }

    /// Paths and queries that were asked for.
    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    pub(super) fn api(&self) -> Api {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let answer = server.answer(&request);
            async move {
                match answer {
                    Some(answer) => Ok::<_, Infallible>(answer),
                    None => std::future::pending().await,
                }
            }
        });
        Api::fake(Client::new(service, "default"))
    }

    fn answer(&self, request: &Request<Body>) -> Option<Response<Body>> {
        let uri = request.uri();
        self.asked.lock().unwrap().push(uri.to_string());
        let whole = |code: u16, body: String| {
            Response::builder().status(code).body(Body::from(body.into_bytes())).unwrap()
        };
        if uri.query().is_some_and(|query| query.contains("watch=true")) {
            let mut watched = self.watched.lock().unwrap();
            let (code, body) = watched.get_mut(uri.path())?.pop_front()?;
            return Some(whole(code, body));
        }
        let (code, body) = match (self.refused.get(uri.path()), self.lists.get(uri.path())) {
            (Some((code, message)), _) => (*code, status(*code, message)),
            (None, Some(items)) => self.page(items, uri.query().unwrap_or_default()),
            (None, None) => (404, status(404, "the server could not find the requested resource")),
        };
        Some(whole(code, body.to_string()))
    }

    /// As the real one does, an empty list is `null`.
    fn page(&self, items: &[Value], query: &str) -> (u16, Value) {
        let parameter = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).map(|(_, value)| value.parse::<usize>().unwrap())
        };
        let begin = parameter("continue").unwrap_or(0);
        let limit = parameter("limit").unwrap_or(usize::MAX);
        if self.forgets_after.is_some_and(|pages| begin > 0 && begin >= pages * limit) {
            return (410, status(410, "the provided continue parameter is too old"));
        }
        let end = begin.saturating_add(limit).min(items.len());
        let mut metadata = json!({"resourceVersion": "10"});
        if end < items.len() {
            metadata["continue"] = json!(end.to_string());
        }
        let page = if items.is_empty() { Value::Null } else { json!(items[begin..end]) };
        (200, json!({"kind": "List", "metadata": metadata, "items": page}))
    }
}

fn status(code: u16, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code})
}

fn meta(name: &str, namespace: &str) -> Value {
    json!({
        "name": name, "namespace": namespace, "uid": "x", "labels": null,
        "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:status": {}}}],
    })
}

pub(super) fn node(name: &str, addresses: &[(&str, &str)], boot_id: &str) -> Value {
    let addresses: Vec<_> =
        addresses.iter().map(|(kind, address)| json!({"type": kind, "address": address})).collect();
    json!({
        "metadata": {"name": name, "creationTimestamp": "2026-11-01T00:00:00Z"},
        "status": {"addresses": addresses, "nodeInfo": {"bootID": boot_id, "machineID": "m"}},
    })
}

pub(super) fn pod(name: &str, node: &str, ip: &str, phase: &str) -> Value {
    let ips = if ip.is_empty() { Value::Null } else { json!([{"ip": ip}]) };
    json!({
        "metadata": meta(name, "default"),
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]},
        "status": {"phase": phase, "podIP": ip, "podIPs": ips, "conditions": null},
    })
}

pub(super) fn service(name: &str, spec: &Value) -> Value {
    json!({"metadata": meta(name, "default"), "spec": spec, "status": {"loadBalancer": {}}})
}

/// Two nodes, some pods, some Services, and slices behind them.
pub(super) fn cluster() -> Server {
    let target = |name: &str| json!({"kind": "Pod", "namespace": "default", "name": name});
    let mut proxy = pod("proxy", "node1", "192.168.56.11", "Running");
    proxy["spec"]["hostNetwork"] = json!(true);
    let mut waiting = pod("waiting", "", "", "Pending");
    waiting["status"]["conditions"] = json!([
        {"type": "PodScheduled", "status": "False", "message": "0/2 nodes are available: 2 Insufficient cpu."}
    ]);
    let mut owned = pod("pod2", "node1", "10.42.0.11", "Running");
    owned["metadata"]["labels"] = json!({"app": "api", "pod-template-hash": "6d8c4cb4d"});
    owned["metadata"]["ownerReferences"] = json!([
        {"kind": "Other", "name": "api", "uid": "o"},
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "api-6d8c4cb4d", "uid": "r", "controller": true},
    ]);
    proxy["metadata"]["ownerReferences"] =
        json!([{"kind": "DaemonSet", "name": "proxy", "controller": true}]);
    let mut dual = pod("pod3", "node2", "10.42.1.10", "Running");
    dual["status"]["podIPs"] = json!([{"ip": "10.42.1.10"}, {"ip": "fd00:42:1::10"}]);
    Server::default()
        .with(
            "/api/v1/nodes",
            vec![
                node("node1", &[("Hostname", "node1"), ("ExternalIP", "203.0.113.1"), ("InternalIP", "192.168.56.11")], "b1"),
                node("node2", &[("InternalIP", "192.168.56.12")], "b2"),
            ],
        )
        .with(
            "/api/v1/pods",
            vec![
                pod("pod1", "node1", "10.42.0.10", "Running"),
                owned,
                dual,
                pod("starting", "node2", "", "Pending"),
                waiting,
                // Its address is pod2's by now.
                pod("job-x7x2k", "node1", "10.42.0.11", "Succeeded"),
                proxy,
            ],
        )
        .with(
            "/api/v1/services",
            vec![
                service(
                    "web",
                    &json!({
                        "type": "NodePort", "clusterIP": "10.96.0.20", "clusterIPs": ["10.96.0.20"],
                        "ports": [
                            {"name": "http", "protocol": "TCP", "port": 80, "targetPort": "web", "nodePort": 30080},
                            {"name": "metrics", "port": 9090, "targetPort": 9091},
                        ],
                    }),
                ),
                // Before there were two families, there was no list of addresses.
                service("old", &json!({"type": "ClusterIP", "clusterIP": "10.96.0.21", "ports": null})),
                service("headless", &json!({"type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None"]})),
                service("shop", &json!({"type": "ExternalName", "externalName": "shop.example.com"})),
            ],
        )
        .with(
            "/apis/discovery.k8s.io/v1/endpointslices",
            vec![
                json!({
                    "metadata": {"name": "web-abc", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
                    "addressType": "IPv4",
                    "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "metrics", "port": 9091}],
                    "endpoints": [
                        {"addresses": ["10.42.0.10"], "conditions": {"ready": true}, "targetRef": target("pod1")},
                        {"addresses": ["10.42.1.10"], "conditions": {}, "targetRef": target("pod3")},
                        {"addresses": ["10.42.0.11"], "conditions": {"ready": false}, "targetRef": target("pod2")},
                        {"addresses": ["10.9.9.9"]},
                    ],
                }),
                json!({
                    "metadata": {"name": "headless-abc", "namespace": "default", "labels": {"kubernetes.io/service-name": "headless"}},
                    "endpoints": [{"addresses": ["10.42.0.11"], "targetRef": target("pod2")}], "ports": null,
                }),
                json!({"metadata": {"name": "nobody's", "namespace": "default"}, "endpoints": null}),
            ],
        )
        .with(
            "/api/v1/endpoints",
            vec![json!({
                "metadata": meta("web", "default"),
                "subsets": [{
                    "addresses": [
                        {"ip": "10.42.0.10", "targetRef": target("pod1")},
                        {"ip": "10.42.1.10", "targetRef": target("pod3")},
                    ],
                    "notReadyAddresses": [{"ip": "10.42.0.11", "targetRef": target("pod2")}],
                    "ports": [{"name": "http", "port": 8080}, {"name": "metrics", "port": 9091}],
                }],
            })],
        )
}
