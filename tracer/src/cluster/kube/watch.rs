//! A cluster that is watched: what becomes of it while a trace runs.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout_at};

use super::access::Api;
use super::follow::{Heard, follow};
use super::known::{Known, Told};
use super::list::{ENDPOINT_SLICES, ENDPOINTS, Kind, NODES, PODS, SERVICES, list};
use super::machine::Machine;
use super::objects::{EndpointSlice, Endpoints, Pod, Service};
use super::refusal::Refusal;
use podtrace_protocol::inventory::Inventory;

/// What belongs together comes within this time: a rollout has many changes a second.
const TOGETHER: Duration = Duration::from_millis(50);

/// What is heard and waits to be looked at, at most.
const QUEUE: usize = 1024;

/// From when on a kind is to be followed.
#[derive(Clone, Debug, Default)]
pub(super) struct Versions {
    pub(super) pods: String,
    pub(super) services: String,
    pub(super) backing: String,
}

/// A cluster that was looked at and can be watched from then on.
#[derive(Clone)]
pub struct Watch {
    pub(super) api: Api,
    pub(super) machine: Machine,
    pub(super) known: Known,
    pub(super) versions: Versions,
    /// Whether the server has slices.
    pub(super) slices: bool,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("versions", &self.versions).finish_non_exhaustive()
    }
}

/// What becomes of a cluster.
#[derive(Clone, Debug)]
pub enum News {
    /// It is so now.
    Cluster {
        /// What there is.
        inventory: Box<Inventory>,
        /// Full names of pods that were made anew under the name that they had.
        renewed: BTreeSet<String>,
    },
    /// The server is not to be reached; it is tried again.
    Lost(Refusal),
    /// It is again, and nothing was missed.
    Back,
    /// The server does not tell what becomes of the cluster, and is not asked again.
    Refused(Refusal),
}

/// The news of a cluster. Dropping it ends the watching.
#[derive(Debug)]
pub struct Watching {
    news: mpsc::Receiver<News>,
    task: AbortHandle,
}

impl Watching {
    /// What is new; `None` once there will be nothing more. Cancelling this loses nothing.
    pub async fn next(&mut self) -> Option<News> {
        self.news.recv().await
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Something heard of one of the kinds.
enum Any {
    Pods(Heard<Pod>),
    Services(Heard<Service>),
    Slices(Heard<EndpointSlice>),
    Endpoints(Heard<Endpoints>),
}

impl Watch {
    /// Begins to watch.
    #[must_use]
    pub fn begin(self) -> Watching {
        let (to, news) = mpsc::channel(1);
        Watching { news, task: tokio::spawn(self.run(to)).abort_handle() }
    }

    async fn run(self, to: mpsc::Sender<News>) {
        let Self { api, machine, known, versions, slices } = self;
        let (heard_by, mut heard) = mpsc::channel(QUEUE);
        // Ends with this.
        let mut tasks = JoinSet::new();
        let Versions { pods, services, backing } = versions;
        spawn(&mut tasks, &api, PODS, pods, heard_by.clone(), Any::Pods);
        spawn(&mut tasks, &api, SERVICES, services, heard_by.clone(), Any::Services);
        if slices {
            spawn(&mut tasks, &api, ENDPOINT_SLICES, backing, heard_by, Any::Slices);
        } else {
            spawn(&mut tasks, &api, ENDPOINTS, backing, heard_by, Any::Endpoints);
        }
        let mut state = State { known, changed: false, lost: 0, why: None, refused: None };
        let mut told_lost = false;
        let mut unlisted = BTreeSet::new();
        while let Some(first) = heard.recv().await {
            state.take(first);
            let deadline = Instant::now() + TOGETHER;
            while let Ok(Some(next)) = timeout_at(deadline, heard.recv()).await {
                state.take(next);
            }
            let State { known, changed, lost, why, refused } = &mut state;
            if let Some(refusal) = refused.take() {
                // Nobody may be left to hear it.
                let _ = to.send(News::Refused(refusal)).await;
                return;
            }
            let mut news = Vec::new();
            if let Some(why) = why.take().filter(|_| !told_lost && *lost > 0) {
                told_lost = true;
                news.push(News::Lost(why));
            }
            if std::mem::take(changed) {
                let unknown = known.unknown_nodes();
                if !unknown.is_subset(&unlisted) {
                    // Should it fail, a pod's node stays unknown, which is told where it matters.
                    if let Ok(nodes) = list(&api, NODES).await {
                        known.nodes = nodes.items;
                    }
                    // A node that is not there now is not asked for again and again.
                    unlisted = known.unknown_nodes();
                }
                let (inventory, _) = known.inventory(&machine);
                news.push(News::Cluster { inventory: Box::new(inventory), renewed: known.take_renewed() });
            }
            if told_lost && *lost == 0 {
                told_lost = false;
                news.push(News::Back);
            }
            for news in news {
                if to.send(news).await.is_err() {
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
    to: mpsc::Sender<Any>,
    any: fn(Heard<T>) -> Any,
) where
    T: super::objects::Object + Clone + serde::de::DeserializeOwned + Send + Sync + 'static,
{
    let api = api.clone();
    tasks.spawn(async move {
        let (sender, mut heard) = mpsc::channel(1);
        let pass = async {
            while let Some(heard) = heard.recv().await {
                if to.send(any(heard)).await.is_err() {
                    return;
                }
            }
        };
        let follow = async {
            follow(&api, kind, version, &sender).await;
            drop(sender);
        };
        tokio::join!(follow, pass);
    });
}

struct State {
    known: Known,
    changed: bool,
    /// Kinds whose server is not to be reached.
    lost: usize,
    why: Option<Refusal>,
    refused: Option<Refusal>,
}

impl State {
    fn take(&mut self, any: Any) {
        match any {
            Any::Pods(heard) => self.hear(heard, Known::pods),
            Any::Services(heard) => self.hear(heard, Known::services),
            Any::Slices(heard) => self.hear(heard, Known::slices),
            Any::Endpoints(heard) => self.hear(heard, Known::endpoints),
        }
    }

    fn hear<T>(&mut self, heard: Heard<T>, learn: fn(&mut Known, Told<T>) -> bool) {
        match heard {
            Heard::Told(told) => {
                self.changed |= learn(&mut self.known, told);
            }
            Heard::Lost(why) => {
                self.lost += 1;
                self.why.get_or_insert(why);
            }
            Heard::Back => self.lost = self.lost.saturating_sub(1),
            Heard::Refused(refusal) => {
                self.refused = Some(match self.refused.take() {
                    Some(before) => before.and(refusal),
                    None => refusal,
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

    /// Addresses of a pod, where that is news.
    fn address(news: &News, name: &str) -> Option<String> {
        let News::Cluster { inventory, .. } = news else { panic!("{news:?}") };
        let pod = inventory.pods.iter().find(|pod| pod.name == name)?;
        Some(pod.ips.iter().map(ToString::to_string).collect())
    }

    #[tokio::test]
    async fn what_becomes_of_pods_is_told() {
        let moved = event("MODIFIED", pod("pod1", "node1", "10.42.0.17", "Running"), "11");
        let gone = event("DELETED", pod("pod2", "node1", "", "Running"), "12");
        let server = cluster().telling(POD_PATH, &[moved, gone]);
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
    async fn a_pod_that_was_made_anew_is_told_though_it_is_where_it_was() {
        let mut anew = pod("pod1", "node1", "10.42.0.10", "Running");
        anew["metadata"]["uid"] = json!("y");
        let server = cluster().telling(POD_PATH, &[event("MODIFIED", anew, "11")]);
        let News::Cluster { renewed, .. } = next(&mut watching(&server).await).await else { panic!() };
        assert_eq!(renewed, BTreeSet::from(["default/pod1".to_owned()]));
    }

    #[tokio::test]
    async fn a_node_that_is_new_is_asked_for_once() {
        let on_new = |number: &str, version: &str| {
            let pod = pod(&format!("new{number}"), "node9", &format!("10.42.9.{number}"), "Running");
            event("ADDED", pod, version)
        };
        let server =
            cluster().telling(POD_PATH, &[on_new("1", "11")]).telling(POD_PATH, &[on_new("2", "12")]);
        let mut watching = watching(&server).await;
        assert_eq!(address(&next(&mut watching).await, "new1").as_deref(), Some("10.42.9.1"));
        assert_eq!(address(&next(&mut watching).await, "new2").as_deref(), Some("10.42.9.2"));
        let asked = server.asked();
        assert_eq!(asked.iter().filter(|asked| asked.starts_with("/api/v1/nodes")).count(), 2, "{asked:?}");
    }

    #[tokio::test]
    async fn what_is_behind_a_service_is_told() {
        let slice = json!({
            "metadata": {"name": "web-abc", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
            "endpoints": [{"targetRef": {"kind": "Pod", "namespace": "default", "name": "pod2"}}],
        });
        let path = "/apis/discovery.k8s.io/v1/endpointslices";
        let server = cluster().telling(path, &[event("MODIFIED", slice, "11")]);
        let News::Cluster { inventory, .. } = next(&mut watching(&server).await).await else { panic!() };
        let web = inventory.services.iter().find(|service| service.name == "web").unwrap();
        assert_eq!(web.endpoints, ["default/pod2"]);
    }

    #[tokio::test]
    async fn what_the_server_has_forgotten_is_listed_again() {
        let moved = event("MODIFIED", pod("pod1", "node1", "10.42.0.17", "Running"), "11");
        let server =
            cluster().not_telling(POD_PATH, 410, "too old resource version").telling(POD_PATH, &[moved]);
        let news = next(&mut watching(&server).await).await;
        assert_eq!(address(&news, "pod1").as_deref(), Some("10.42.0.17"));
        let lists = server.asked().into_iter().filter(|asked| asked.starts_with("/api/v1/pods?&limit"));
        assert_eq!(lists.count(), 2);
    }

    #[tokio::test]
    async fn a_server_in_trouble_is_told_once_and_when_it_is_well_again() {
        let moved = event("MODIFIED", pod("pod1", "node1", "10.42.0.17", "Running"), "11");
        let mut server = cluster();
        for _ in 0..2 {
            server = server.not_telling(POD_PATH, 500, "etcd is on fire");
        }
        let mut watching = watching(&server.telling(POD_PATH, &[moved])).await;
        let News::Lost(why) = next(&mut watching).await else { panic!("not lost") };
        assert!(why.to_string().contains("could not watch pods in the whole cluster: 500 etcd is on fire"));
        let news = next(&mut watching).await;
        assert_eq!(address(&news, "pod1").as_deref(), Some("10.42.0.17"));
        assert!(matches!(next(&mut watching).await, News::Back));
    }

    #[tokio::test]
    async fn all_rights_to_watch_that_are_missing_are_named_at_once() {
        let server = cluster().not_telling(POD_PATH, 403, "no").not_telling("/api/v1/services", 403, "no");
        let mut watching = watching(&server).await;
        let News::Refused(why) = next(&mut watching).await else { panic!("not refused") };
        let why = why.to_string();
        for part in ["watch pods in the whole cluster", "watch services in the whole cluster"] {
            assert!(why.contains(part), "{why}");
        }
        assert!(watching.next().await.is_none());
    }
}
