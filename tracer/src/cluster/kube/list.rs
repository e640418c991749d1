//! Lists of objects, fetched page by page.

use std::time::Duration;

use kube::api::ListParams;
use kube::core::Request;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::access::Api;
use super::objects::nullable;
use super::refusal::{Refusal, Right};

/// Objects in one answer: enough for few round trips, and few enough that neither side has to hold much at once.
const PAGE: u32 = 500;

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A kind of object, and where its lists are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    path: &'static str,
    group: &'static str,
    resource: &'static str,
}

pub(super) const NODES: Kind = Kind { path: "/api/v1/nodes", group: "", resource: "nodes" };
pub(super) const PODS: Kind = Kind { path: "/api/v1/pods", group: "", resource: "pods" };
pub(super) const SERVICES: Kind = Kind { path: "/api/v1/services", group: "", resource: "services" };
pub(super) const ENDPOINTS: Kind = Kind { path: "/api/v1/endpoints", group: "", resource: "endpoints" };
/// Served since Kubernetes 1.21.
pub(super) const ENDPOINT_SLICES: Kind = Kind {
    path: "/apis/discovery.k8s.io/v1/endpointslices",
    group: "discovery.k8s.io",
    resource: "endpointslices",
};

#[derive(Deserialize)]
struct Page<T> {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(default = "Vec::new", deserialize_with = "nullable", bound(deserialize = "T: Deserialize<'de>"))]
    items: Vec<T>,
}

#[derive(Default, Deserialize)]
struct ListMeta {
    #[serde(rename = "continue")]
    continue_token: Option<String>,
}

/// All objects of a kind, in all namespaces.
pub(super) async fn list<T: DeserializeOwned>(api: &Api, kind: Kind) -> Result<Vec<T>, Refusal> {
    let right = Right { verb: "list", group: kind.group, resource: kind.resource, namespace: None };
    let refused = |error| Refusal::of(&api.server, right.clone(), error);
    let request = Request::new(kind.path);
    let mut params = ListParams::default().limit(PAGE);
    let mut items = Vec::new();
    loop {
        let asked = request.list(&params).map_err(kube::Error::BuildRequest).map_err(&refused)?;
        let answer = timeout(ANSWER_TIMEOUT, api.client.request::<Page<T>>(asked)).await;
        let page = match answer {
            Ok(Ok(page)) => page,
            // The server does not keep a list's state for long. Whole, it needs none.
            Ok(Err(kube::Error::Api(status))) if status.code == 410 && params.continue_token.is_some() => {
                items.clear();
                params = ListParams::default();
                continue;
            }
            Ok(Err(error)) => return Err(refused(error)),
            Err(_) => {
                return Err(Refusal::Silent {
                    server: api.server.clone(),
                    seconds: ANSWER_TIMEOUT.as_secs(),
                });
            }
        };
        items.extend(page.items);
        match page.metadata.continue_token.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => return Ok(items),
        }
    }
}
