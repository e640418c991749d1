//! Watches pods, Services and their endpoints while a trace runs, and reports each batch of changes as a complete inventory.
//!
//! Nodes are not watched: they are listed again when a pod is on one that is not known yet.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout_at};

use super::access::Api;
use super::error::ApiError;
use super::follow::{WatchNews, follow};
use super::known::{Change, Known};
use super::list::{ENDPOINT_SLICES, ENDPOINTS, Kind, NODES, PODS, SERVICES, list};
use super::machine::Machine;
use super::objects::{EndpointSlice, Endpoints, Pod, Service};
use podtrace_protocol::inventory::Inventory;

/// Events within this time are reported together: a rollout causes many per second.
const BATCH: Duration = Duration::from_millis(50);

/// Maximum number of events that wait.
const QUEUE: usize = 1024;

/// The resource versions to start the watches from.
#[derive(Clone, Debug, Default)]
pub(super) struct Versions {
    pub(super) pods: String,
    pub(super) services: String,
    pub(super) endpoints: String,
}

/// A cluster that was listed and can be watched from then on.
#[derive(Clone)]
pub struct Watch {
    pub(super) api: Api,
    pub(super) machine: Machine,
    pub(super) known: Known,
    pub(super) versions: Versions,
    /// Whether the server has endpoint slices. If not, Endpoints are watched.
    pub(super) has_endpoint_slices: bool,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("versions", &self.versions).finish_non_exhaustive()
    }
}

/// A report about the cluster.
#[derive(Clone, Debug)]
pub enum News {
    /// It has changed.
    Cluster {
        /// The new inventory.
        inventory: Box<Inventory>,
        /// `NAMESPACE/NAME` of pods that were deleted and created again under their name.
        recreated: BTreeSet<String>,
    },
    /// The server cannot be reached; retrying.
    Lost(ApiError),
    /// The server can be reached again, and no change was missed.
    Back,
    /// The server denies watching; giving up.
    Denied(ApiError),
}

/// A running watch. Dropping it ends the watch.
#[derive(Debug)]
pub struct Watching {
    news: mpsc::Receiver<News>,
    task: AbortHandle,
}

impl Watching {
    /// The next report; `None` after the last one. Cancel-safe.
    pub async fn next(&mut self) -> Option<News> {
        self.news.recv().await
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// News about one of the kinds.
enum AnyNews {
    Pods(WatchNews<Pod>),
    Services(WatchNews<Service>),
    Slices(WatchNews<EndpointSlice>),
    Endpoints(WatchNews<Endpoints>),
}

impl Watch {
    /// Starts to watch.
    #[must_use]
    pub fn begin(self) -> Watching {
        let (sender, news) = mpsc::channel(1);
        Watching { news, task: tokio::spawn(self.run(sender)).abort_handle() }
    }

    async fn run(self, reports: mpsc::Sender<News>) {
        let Self { api, machine, known, versions, has_endpoint_slices } = self;
        let (sender, mut receiver) = mpsc::channel(QUEUE);
        // Dropping the set ends its tasks.
        let mut tasks = JoinSet::new();
        let Versions { pods, services, endpoints } = versions;
        spawn(&mut tasks, &api, PODS, pods, sender.clone(), AnyNews::Pods);
        spawn(&mut tasks, &api, SERVICES, services, sender.clone(), AnyNews::Services);
        if has_endpoint_slices {
            spawn(&mut tasks, &api, ENDPOINT_SLICES, endpoints, sender, AnyNews::Slices);
        } else {
            spawn(&mut tasks, &api, ENDPOINTS, endpoints, sender, AnyNews::Endpoints);
        }
        let mut state = State { known, changed: false, lost: 0, error: None, denied: None };
        let mut reported_lost = false;
        let mut nodes_not_found = BTreeSet::new();
        while let Some(first) = receiver.recv().await {
            state.apply(first);
            let deadline = Instant::now() + BATCH;
            while let Ok(Some(next)) = timeout_at(deadline, receiver.recv()).await {
                state.apply(next);
            }
            let State { known, changed, lost, error, denied } = &mut state;
            if let Some(error) = denied.take() {
                // The receiver may be closed, which is no error.
                let _ = reports.send(News::Denied(error)).await;
                return;
            }
            let mut news = Vec::new();
            if let Some(error) = error.take().filter(|_| !reported_lost && *lost > 0) {
                reported_lost = true;
                news.push(News::Lost(error));
            }
            if std::mem::take(changed) {
                let unknown = known.unknown_nodes();
                // A failure is no error here: the next change tries again, and resolving a pod on an unknown node says so.
                if !unknown.is_subset(&nodes_not_found)
                    && let Ok(nodes) = list(&api, NODES).await
                {
                    known.nodes = nodes.items;
                    // Not looked for again: the list was complete.
                    nodes_not_found = known.unknown_nodes();
                }
                // Its warnings were given when the cluster was listed.
                let (inventory, _warnings) = known.inventory(&machine);
                news.push(News::Cluster {
                    inventory: Box::new(inventory),
                    recreated: known.take_recreated(),
                });
            }
            if reported_lost && *lost == 0 {
                reported_lost = false;
                news.push(News::Back);
            }
            for news in news {
                if reports.send(news).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn spawn<T>(
    tasks: &mut JoinSet<()>,
    api: &Api,
    kind: Kind,
    version: String,
    sender: mpsc::Sender<AnyNews>,
    wrap: fn(WatchNews<T>) -> AnyNews,
) where
    T: super::objects::Object + Clone + serde::de::DeserializeOwned + Send + Sync + 'static,
{
    let api = api.clone();
    tasks.spawn(async move {
        let (own_sender, mut receiver) = mpsc::channel(1);
        let forward = async {
            while let Some(news) = receiver.recv().await {
                if sender.send(wrap(news)).await.is_err() {
                    return;
                }
            }
        };
        let follow = async {
            follow(&api, kind, version, &own_sender).await;
            drop(own_sender);
        };
        tokio::join!(follow, forward);
    });
}

struct State {
    known: Known,
    changed: bool,
    /// Number of kinds whose watch has lost the server.
    lost: usize,
    /// The first error since the last report.
    error: Option<ApiError>,
    denied: Option<ApiError>,
}

impl State {
    fn apply(&mut self, any: AnyNews) {
        match any {
            AnyNews::Pods(news) => self.handle(news, Known::pods),
            AnyNews::Services(news) => self.handle(news, Known::services),
            AnyNews::Slices(news) => self.handle(news, Known::slices),
            AnyNews::Endpoints(news) => self.handle(news, Known::endpoints),
        }
    }

    fn handle<T>(&mut self, news: WatchNews<T>, apply: fn(&mut Known, Change<T>) -> bool) {
        match news {
            WatchNews::Change(change) => {
                self.changed |= apply(&mut self.known, change);
            }
            WatchNews::Lost(error) => {
                self.lost += 1;
                self.error.get_or_insert(error);
            }
            WatchNews::Back => self.lost = self.lost.saturating_sub(1),
            WatchNews::Denied(error) => {
                self.denied = Some(match self.denied.take() {
                    Some(before) => before.and(error),
                    None => error,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::describe;
    use super::super::samples::{Server, cluster, pod};
    use super::*;

    const POD_PATH: &str = "/api/v1/pods";

    fn event(what: &str, mut object: Value, version: &str) -> Value {
        object["metadata"]["resourceVersion"] = json!(version);
        json!({"type": what, "object": object})
    }

    async fn watching(server: &Server) -> Watching {
        describe(&server.api(), &Machine::default()).await.unwrap().watch.begin()
    }

    async fn next(watching: &mut Watching) -> News {
        tokio::time::timeout(Duration::from_secs(20), watching.next()).await.unwrap().unwrap()
    }

    /// Addresses of a pod in a report.
    fn address(news: &News, name: &str) -> Option<String> {
        let News::Cluster { inventory, .. } = news else { panic!("{news:?}") };
        let pod = inventory.pods.iter().find(|pod| pod.name == name)?;
        Some(pod.ips.iter().map(ToString::to_string).collect())
    }

    #[tokio::test]
    async fn changes_of_pods_are_reported() {
        let moved = event("MODIFIED", pod("pod1", "node1", "10.42.0.17", "Running"), "11");
        let gone = event("DELETED", pod("pod2", "node1", "", "Running"), "12");
        let server = cluster().sending(POD_PATH, &[moved, gone]);
        let news = next(&mut watching(&server).await).await;
        assert_eq!(address(&news, "pod1").as_deref(), Some("10.42.0.17"));
        assert_eq!(address(&news, "pod2"), None);
        let asked = server.asked();
        let watched = |version: &str| {
            asked.iter().any(|asked| {
                asked.starts_with(&format!("{POD_PATH}?"))
                    && asked.contains("watch=true")
                    && asked.ends_with(&format!("resourceVersion={version}"))
            })
        };
        assert!(watched("10"), "from where the list was: {asked:?}");
    }

    #[tokio::test]
    async fn a_recreated_pod_is_reported_even_with_the_same_address() {
        let mut anew = pod("pod1", "node1", "10.42.0.10", "Running");
        anew["metadata"]["uid"] = json!("y");
        let server = cluster().sending(POD_PATH, &[event("MODIFIED", anew, "11")]);
        let News::Cluster { recreated, .. } = next(&mut watching(&server).await).await else { panic!() };
        assert_eq!(recreated, BTreeSet::from(["default/pod1".to_owned()]));
    }

    #[tokio::test]
    async fn a_new_node_is_listed_once() {
        let on_new = |number: &str, version: &str| {
            let pod = pod(&format!("new{number}"), "node9", &format!("10.42.9.{number}"), "Running");
            event("ADDED", pod, version)
        };
        let server =
            cluster().sending(POD_PATH, &[on_new("1", "11")]).sending(POD_PATH, &[on_new("2", "12")]);
        let mut watching = watching(&server).await;
        assert_eq!(address(&next(&mut watching).await, "new1").as_deref(), Some("10.42.9.1"));
        assert_eq!(address(&next(&mut watching).await, "new2").as_deref(), Some("10.42.9.2"));
        let asked = server.asked();
        assert_eq!(asked.iter().filter(|asked| asked.starts_with("/api/v1/nodes")).count(), 2, "{asked:?}");
    }

    #[tokio::test]
    async fn changes_of_endpoints_are_reported() {
        let slice = json!({
            "metadata": {"name": "web-abc", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
            "endpoints": [{"targetRef": {"kind": "Pod", "namespace": "default", "name": "pod2"}}],
        });
        let path = "/apis/discovery.k8s.io/v1/endpointslices";
        let server = cluster().sending(path, &[event("MODIFIED", slice, "11")]);
        let News::Cluster { inventory, .. } = next(&mut watching(&server).await).await else { panic!() };
        let web = inventory.services.iter().find(|service| service.name == "web").unwrap();
        assert_eq!(web.endpoints, ["default/pod2"]);
    }

    #[tokio::test]
    async fn an_expired_version_is_listed_again() {
        let moved = event("MODIFIED", pod("pod1", "node1", "10.42.0.17", "Running"), "11");
        let server = cluster().denying(POD_PATH, 410, "too old resource version").sending(POD_PATH, &[moved]);
        let news = next(&mut watching(&server).await).await;
        assert_eq!(address(&news, "pod1").as_deref(), Some("10.42.0.17"));
        let lists = server.asked().into_iter().filter(|asked| asked.starts_with("/api/v1/pods?&limit"));
        assert_eq!(lists.count(), 2);
    }

    #[tokio::test]
    async fn a_failing_server_is_reported_once_and_so_is_its_recovery() {
        let moved = event("MODIFIED", pod("pod1", "node1", "10.42.0.17", "Running"), "11");
        let mut server = cluster();
        for _ in 0..2 {
            server = server.denying(POD_PATH, 500, "etcd is on fire");
        }
        let mut watching = watching(&server.sending(POD_PATH, &[moved])).await;
        let News::Lost(why) = next(&mut watching).await else { panic!("not lost") };
        assert!(why.to_string().contains("could not watch pods in the whole cluster: 500 etcd is on fire"));
        let news = next(&mut watching).await;
        assert_eq!(address(&news, "pod1").as_deref(), Some("10.42.0.17"));
        assert!(matches!(next(&mut watching).await, News::Back));
    }

    #[tokio::test]
    async fn all_missing_watch_permissions_are_named_at_once() {
        let server = cluster().denying(POD_PATH, 403, "no").denying("/api/v1/services", 403, "no");
        let mut watching = watching(&server).await;
        let News::Denied(why) = next(&mut watching).await else { panic!("not denied") };
        let why = why.to_string();
        for part in ["watch pods in the whole cluster", "watch services in the whole cluster"] {
            assert!(why.contains(part), "{why}");
        }
        assert!(watching.next().await.is_none());
    }
}
