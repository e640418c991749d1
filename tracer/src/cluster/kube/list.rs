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

impl Kind {
    /// The right to do this with all objects of the kind.
    pub(super) fn right(self, verb: &'static str) -> Right {
        Right { verb, group: self.group, resource: self.resource, namespace: None }
    }

    /// What is asked of them.
    pub(super) fn request(self) -> Request {
        Request::new(self.path)
    }
}

#[derive(Deserialize)]
struct Page<T> {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(default = "Vec::new", deserialize_with = "nullable", bound(deserialize = "T: Deserialize<'de>"))]
    items: Vec<T>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ListMeta {
    #[serde(rename = "continue")]
    continue_token: Option<String>,
    resource_version: String,
}

/// Objects of a kind, as they were at one moment.
#[derive(Debug)]
pub(super) struct Listed<T> {
    pub(super) items: Vec<T>,
    /// What the server calls the moment.
    pub(super) version: String,
}

/// All objects of a kind, in all namespaces.
pub(super) async fn list<T: DeserializeOwned>(api: &Api, kind: Kind) -> Result<Listed<T>, Refusal> {
    list_some(api, kind, ListParams::default()).await
}

/// Objects of a kind that are chosen by their labels or fields.
pub(super) async fn list_some<T: DeserializeOwned>(
    api: &Api,
    kind: Kind,
    chosen: ListParams,
) -> Result<Listed<T>, Refusal> {
    let right = kind.right("list");
    let request = kind.request();
    let mut params = chosen.clone().limit(PAGE);
    let mut items = Vec::new();
    loop {
        let page: Page<T> = match ask(api, right.clone(), request.list(&params)).await {
            Ok(page) => page,
            // The server does not keep a list's state for long. Whole, it needs none.
            Err(Refusal::Gone { .. }) if params.continue_token.is_some() => {
                items.clear();
                params = chosen.clone();
                continue;
            }
            Err(refusal) => return Err(refusal),
        };
        items.extend(page.items);
        match page.metadata.continue_token.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => return Ok(Listed { items, version: page.metadata.resource_version }),
        }
    }
}

/// Asks the server for one thing, which takes this right.
pub(super) async fn ask<T: DeserializeOwned>(
    api: &Api,
    right: Right,
    request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
) -> Result<T, Refusal> {
    let refused = |error| Refusal::of(&api.server, right, error);
    let request = match request.map_err(kube::Error::BuildRequest) {
        Ok(request) => request,
        Err(error) => return Err(refused(error)),
    };
    match timeout(ANSWER_TIMEOUT, api.client.request(request)).await {
        Ok(answer) => answer.map_err(refused),
        Err(_) => Err(Refusal::Silent { server: api.server.clone(), seconds: ANSWER_TIMEOUT.as_secs() }),
    }
}
