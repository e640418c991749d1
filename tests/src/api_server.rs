//! A fake Kubernetes API server for a lab: lists and watches its objects, and runs agents on its nodes as a kubelet would
//! in pods.
//!
//! It serves HTTP on loopback, and only the requests that podtrace makes. Its pods are entries in a table; a command
//! executed in one is a process in the network namespace of its node.

mod objects;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use futures_util::{SinkExt as _, StreamExt as _, stream};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use objects::Objects;
use podtrace_protocol::inventory::{self, Run};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::binary;
use crate::lab::Lab;

/// The exec protocol of servers before 1.30, which later ones support as well.
const PROTOCOL: &str = "v4.channel.k8s.io";

/// The behaviour of the server.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// Whether agents are installed on all nodes.
    pub installed: bool,
    /// Whether pods never start.
    pub slow: bool,
    /// Forbidden paths, or parts of them.
    pub forbidden: Option<&'static str>,
    /// Whether watching is forbidden.
    pub unwatchable: bool,
    /// A node whose pods cannot run commands.
    pub broken: Option<&'static str>,
    /// A node whose pods are made at once, while whoever asked for one learns of it only after something was forbidden.
    pub slow_to_answer: Option<&'static str>,
}

/// A running server. Dropping it stops it.
pub struct ApiServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// The runtime of the server.
    _runtime: Runtime,
}

struct Shared {
    cluster: Cluster,
    /// The objects of the cluster.
    objects: Mutex<Objects>,
    /// Their version, and whether the server is reachable; notifies watches.
    state: watch::Sender<(usize, bool)>,
    /// Networks of the nodes.
    networks: BTreeMap<String, PathBuf>,
    podtrace: PathBuf,
    /// Pods by namespace and name.
    pods: Mutex<BTreeMap<(String, String), Value>>,
    /// Number of pods created.
    made: AtomicU32,
    /// Requests: method and path.
    asked: Mutex<Vec<String>>,
    /// Whether something was forbidden.
    forbade: watch::Sender<bool>,
    /// Cuts all connections that carry commands when it becomes true.
    cut: watch::Sender<bool>,
}

impl ApiServer {
    /// Starts one for a lab.
    ///
    /// # Errors
    ///
    /// If no port is free.
    pub fn start(lab: &Lab, cluster: Cluster) -> Result<Self> {
        let inventory = inventory::load(&lab.inventory())?;
        let networks = inventory.nodes.iter().filter_map(|node| match &node.run {
            Run::Netns(path) => Some((node.name.clone(), path.clone())),
            _ => None,
        });
        let networks: BTreeMap<_, _> = networks.collect();
        let mut pods = BTreeMap::new();
        if cluster.installed {
            for node in networks.keys() {
                let name = format!("podtrace-agent-{node}");
                let owner = json!({
                    "apiVersion": "apps/v1", "kind": "DaemonSet", "name": "podtrace-agent", "uid": "1",
                    "controller": true,
                });
                let pod = json!({
                    "metadata": {"name": name, "namespace": "podtrace", "ownerReferences": [owner]},
                    "spec": {"nodeName": node, "hostNetwork": true, "serviceAccountName": "podtrace-agent"},
                    "status": {"phase": "Running"},
                });
                pods.insert(("podtrace".to_owned(), name), pod);
            }
        }
        let shared = Arc::new(Shared {
            cluster,
            state: watch::Sender::new((1, true)),
            objects: Mutex::new(Objects::of(&inventory)),
            networks,
            podtrace: binary::podtrace()?,
            pods: Mutex::new(pods),
            made: AtomicU32::new(0),
            asked: Mutex::default(),
            forbade: watch::Sender::new(false),
            cut: watch::Sender::new(false),
        });
        let runtime = Runtime::new().context("starting the API server's event loop")?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).context("listening")?;
        let address = listener.local_addr()?;
        runtime.spawn(serve(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, _runtime: runtime })
    }

    /// A kubeconfig for this server.
    #[must_use]
    pub fn kubeconfig(&self) -> String {
        json!({
            "clusters": [{"name": "lab", "cluster": {"server": format!("http://{}", self.address)}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab"}}],
            "current-context": "lab",
        })
        .to_string()
    }

    /// Names of the pods that agents can run in.
    #[must_use]
    pub fn agent_pods(&self) -> Vec<String> {
        locked(&self.shared.pods).keys().map(|(namespace, name)| format!("{namespace}/{name}")).collect()
    }

    /// Adds a pod that has ended, as a killed podtrace leaves one.
    pub fn leave_behind(&self, node: &str, name: &str) {
        self.label_as_agent("podtrace", node, name, "Succeeded");
    }

    /// Adds a pod that somebody has labelled as an agent's.
    pub fn label_as_agent(&self, namespace: &str, node: &str, name: &str, phase: &str) {
        let pod = json!({
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"nodeName": node, "restartPolicy": "Never"},
            "status": {"phase": phase},
        });
        locked(&self.shared.pods).insert((namespace.to_owned(), name.to_owned()), pod);
    }

    /// Number of requests whose method and path begin with a text.
    #[must_use]
    pub fn asked(&self, start: &str) -> usize {
        locked(&self.shared.asked).iter().filter(|asked| asked.starts_with(start)).count()
    }

    /// Adds or moves a running pod. Another `uid` makes it another pod of the same name.
    pub fn run_pod(&self, name: &str, ip: &str, node: &str, uid: &str) {
        self.change(|objects| objects.put("pods", name, objects::running(name, &[ip.to_owned()], node, uid)));
    }

    /// Deletes a pod of the cluster.
    pub fn remove_pod(&self, name: &str) {
        self.change(|objects| objects.remove("pods", name));
    }

    /// Sets the pods behind a headless Service.
    pub fn serve_by(&self, service: &str, pods: &[&str]) {
        self.change(|objects| {
            objects.put("services", service, objects::headless(service));
            objects.put("endpointslices", service, objects::slice(service, pods));
        });
    }

    fn change(&self, change: impl FnOnce(&mut Objects)) {
        let mut objects = locked(&self.shared.objects);
        change(&mut objects);
        self.shared.state.send_modify(|(version, _)| *version = objects.version());
    }

    /// Expires all changes so far: watches from earlier versions get 410 Gone.
    pub fn forget(&self) {
        locked(&self.shared.objects).forget();
    }

    /// Makes the server unreachable, or reachable again. Connections of commands stay.
    pub fn set_up(&self, up: bool) {
        self.shared.state.send_modify(|(_, is_up)| *is_up = up);
    }

    /// Cuts all connections of commands.
    pub fn cut(&self) {
        self.shared.cut.send_replace(true);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let shared = Arc::clone(&shared);
                async move {
                    let is_up = shared.state.borrow().1;
                    if is_up { Ok(answer(&shared, request).await) } else { Err(io::Error::other("down")) }
                }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
            // The client says itself what it misses.
            let _ = connection.await;
        });
    }
}

type Answer = Response<BoxBody<Bytes, io::Error>>;

fn whole(body: impl Into<Bytes>) -> BoxBody<Bytes, io::Error> {
    Full::new(body.into()).map_err(|never: Infallible| match never {}).boxed()
}

fn json_answer(code: StatusCode, body: &Value) -> Answer {
    let mut response = Response::new(whole(body.to_string()));
    *response.status_mut() = code;
    response
}

fn refusal(code: StatusCode, message: &str) -> Answer {
    let body = json!({"kind": "Status", "status": "Failure", "code": code.as_u16(), "message": message});
    json_answer(code, &body)
}

/// Streams the changes of a kind after a version, until the server is unreachable.
fn watched(shared: &Arc<Shared>, kind: &'static str, version: usize) -> Answer {
    let news = shared.state.subscribe();
    let events =
        stream::unfold((Arc::clone(shared), news, version), move |(shared, mut news, version)| async move {
            loop {
                let (now, is_up) = *news.borrow_and_update();
                if !is_up {
                    return Some((Err(io::Error::other("down")), (shared, news, version)));
                }
                if now > version {
                    let events = locked(&shared.objects).since(kind, version).unwrap_or_default();
                    if !events.is_empty() {
                        return Some((Ok(Frame::data(Bytes::from(events))), (shared, news, now)));
                    }
                }
                news.changed().await.ok()?;
            }
        });
    Response::new(BodyExt::boxed(StreamBody::new(events)))
}

fn parameter(query: &str, name: &str) -> Option<String> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
}

async fn answer(shared: &Arc<Shared>, request: Request<Incoming>) -> Answer {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let query = request.uri().query().unwrap_or_default().to_owned();
    locked(&shared.asked).push(format!("{method} {path}"));
    if shared.cluster.forbidden.is_some_and(|forbidden| path.contains(forbidden)) {
        shared.forbade.send_replace(true);
        return refusal(StatusCode::FORBIDDEN, "User \"nobody\" must not");
    }
    let parts: Vec<_> = path.trim_matches('/').split('/').collect();
    match (&method, parts.as_slice()) {
        (&Method::GET, ["api", "v1", "pods"]) if query.contains("labelSelector") => {
            json_answer(StatusCode::OK, &json!({"items": shared.agents(None, &query)}))
        }
        (&Method::GET, ["api", "v1", "namespaces", namespace, "pods"]) => {
            json_answer(StatusCode::OK, &json!({"items": shared.agents(Some(namespace), &query)}))
        }
        (&Method::GET, ["api", "v1", kind] | ["apis", "discovery.k8s.io", "v1", kind]) => {
            shared.objects(kind, &query)
        }
        (&Method::POST, ["api", "v1", "namespaces", "podtrace", "pods"]) => match request.collect().await {
            Ok(body) => shared.create(&body.to_bytes()).await,
            Err(error) => refusal(StatusCode::BAD_REQUEST, &error.to_string()),
        },
        (method, ["api", "v1", "namespaces", namespace, "pods", name]) => shared.pod(method, namespace, name),
        (&Method::GET, ["api", "v1", "namespaces", namespace, "pods", name, "exec"]) => {
            exec(shared, request, namespace, name)
        }
        _ => refusal(StatusCode::NOT_FOUND, "the server could not find the requested resource"),
    }
}

impl Shared {
    /// A list or watch of a kind.
    fn objects(self: &Arc<Self>, kind: &str, query: &str) -> Answer {
        let Some(kind) = objects::KINDS.into_iter().find(|known| *known == kind) else {
            return refusal(StatusCode::NOT_FOUND, "the server could not find the requested resource");
        };
        let objects = locked(&self.objects);
        if parameter(query, "watch").is_none() {
            return json_answer(StatusCode::OK, &objects.list(kind));
        }
        if self.cluster.unwatchable {
            return refusal(StatusCode::FORBIDDEN, "User \"nobody\" must not");
        }
        let version = parameter(query, "resourceVersion").and_then(|version| version.parse().ok());
        let version = version.unwrap_or_default();
        if objects.since(kind, version).is_none() {
            return refusal(StatusCode::GONE, "too old resource version");
        }
        watched(self, kind, version)
    }

    /// The pods on a node that are labelled as agents', in one namespace or all.
    fn agents(&self, namespace: Option<&str>, query: &str) -> Vec<Value> {
        let pods = locked(&self.pods);
        let of_node = |pod: &&Value| {
            let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
            query.contains(&format!("spec.nodeName%3D{node}&"))
        };
        let within =
            |pod: &&Value| namespace.is_none_or(|namespace| pod["metadata"]["namespace"] == namespace);
        pods.values().filter(of_node).filter(within).cloned().collect()
    }

    async fn create(&self, body: &[u8]) -> Answer {
        let Ok(pod) = serde_json::from_slice::<Value>(body) else {
            return refusal(StatusCode::BAD_REQUEST, "no JSON");
        };
        let pod = self.keep(pod);
        if self.cluster.slow_to_answer.is_some_and(|node| pod["spec"]["nodeName"] == node) {
            // The server's end ends this as well.
            let _ = self.forbade.subscribe().wait_for(|forbade| *forbade).await;
        }
        json_answer(StatusCode::CREATED, &pod)
    }

    /// A new pod, with its name.
    fn keep(&self, mut pod: Value) -> Value {
        let mut pods = locked(&self.pods);
        let start = pod["metadata"]["generateName"].as_str().unwrap_or_default();
        // Requests come side by side, and no two pods have the same name.
        let name = format!("{start}{}", self.made.fetch_add(1, Ordering::Relaxed));
        pod["metadata"]["name"] = json!(name);
        pod["metadata"]["namespace"] = json!("podtrace");
        let waiting = json!([{"state": {"waiting": {"reason": "ContainerCreating"}}}]);
        pod["status"] = if self.cluster.slow {
            json!({"phase": "Pending", "containerStatuses": waiting})
        } else {
            json!({"phase": "Running"})
        };
        pods.insert(("podtrace".to_owned(), name), pod.clone());
        pod
    }

    fn pod(&self, method: &Method, namespace: &str, name: &str) -> Answer {
        let mut pods = locked(&self.pods);
        let key = (namespace.to_owned(), name.to_owned());
        let found = if method == Method::DELETE { pods.remove(&key) } else { pods.get(&key).cloned() };
        match found {
            Some(pod) => json_answer(StatusCode::OK, &pod),
            None => refusal(StatusCode::NOT_FOUND, "pods not found"),
        }
    }
}

fn exec(shared: &Arc<Shared>, request: Request<Incoming>, namespace: &str, name: &str) -> Answer {
    let pod = locked(&shared.pods).get(&(namespace.to_owned(), name.to_owned())).cloned();
    let node = pod.and_then(|pod| pod["spec"]["nodeName"].as_str().map(str::to_owned));
    let node = node.filter(|node| shared.cluster.broken.is_none_or(|broken| broken != node));
    let network = node.and_then(|node| shared.networks.get(&node).cloned());
    let key = request.headers().get("sec-websocket-key").cloned();
    let (Some(network), Some(key)) = (network, key) else {
        return refusal(StatusCode::NOT_FOUND, "there is no such pod");
    };
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", network.display())).arg(&shared.podtrace).arg("agent");
    let cut = shared.cut.subscribe();
    tokio::spawn(async move {
        if let Ok(upgraded) = hyper::upgrade::on(request).await {
            let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
            // Either end may go first.
            let _ = carry(socket, command, cut).await;
        }
    });
    let accept = derive_accept_key(key.as_bytes());
    let mut response = Response::new(whole(Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for (name, value) in [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-accept", accept.as_str()),
        ("sec-websocket-protocol", PROTOCOL),
    ] {
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

/// Carries a command's streams, each message prefixed by its stream's number, and its status at the end.
async fn carry(socket: Socket, mut command: Command, mut cut: watch::Receiver<bool>) -> Result<()> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut stdin = child.stdin.take().context("it has no stdin")?;
    let mut stdout = child.stdout.take().context("it has no stdout")?;
    let mut stderr = child.stderr.take().context("it has no stderr")?;
    let (mut to, mut from) = socket.split();
    let (sender, mut output) = mpsc::channel::<Vec<u8>>(16);
    let errors = sender.clone();
    tokio::spawn(async move { pump(1, &mut stdout, &sender).await });
    tokio::spawn(async move { pump(2, &mut stderr, &errors).await });
    loop {
        tokio::select! {
            // Cut, as by a cable: nothing is said.
            () = async { drop(cut.wait_for(|cut| *cut).await) } => return Ok(()),
            message = from.next() => match message {
                Some(Ok(Message::Binary(bytes))) if bytes.first() == Some(&0) => {
                    stdin.write_all(&bytes[1..]).await?;
                    stdin.flush().await?;
                }
                Some(Ok(Message::Close(_))) | None => {
                    // There is nobody to tell the rest to.
                    drop(stdin);
                    child.wait().await?;
                    return Ok(());
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
            },
            said = output.recv() => match said {
                Some(said) => to.send(Message::binary(said)).await?,
                None => break,
            },
        }
    }
    let ended = child.wait().await?;
    let status = if ended.success() {
        json!({"status": "Success"})
    } else {
        json!({"status": "Failure", "message": format!("command terminated: {ended}")})
    };
    let mut message = vec![3];
    message.extend(status.to_string().into_bytes());
    to.send(Message::binary(message)).await?;
    to.close().await?;
    Ok(())
}

async fn pump(stream: u8, from: &mut (impl tokio::io::AsyncRead + Unpin), to: &mpsc::Sender<Vec<u8>>) {
    let mut buffer = vec![0; 32 << 10];
    while let Ok(read) = from.read(&mut buffer).await {
        let message = std::iter::once(stream).chain(buffer[..read].iter().copied()).collect();
        if read == 0 || to.send(message).await.is_err() {
            return;
        }
    }
}
