//! Lists objects, page by page.

use std::time::Duration;

use kube::api::ListParams;
use kube::core::Request;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::access::Api;
use super::error::{ApiError, Permission};
use super::objects::nullable;

/// Objects per answer: enough for few round trips, few enough for the memory of both sides.
const PAGE: u32 = 500;

/// Time limit for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A kind of object, and the path of its list.
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
/// The pods of podtrace's own namespace.
pub(super) const OWN_PODS: Kind =
    Kind { path: "/api/v1/namespaces/podtrace/pods", group: "", resource: "pods" };
/// Served since Kubernetes 1.21.
pub(super) const ENDPOINT_SLICES: Kind = Kind {
    path: "/apis/discovery.k8s.io/v1/endpointslices",
    group: "discovery.k8s.io",
    resource: "endpointslices",
};

impl Kind {
    /// The permission for a verb on all objects of the kind.
    pub(super) fn permission(self, verb: &'static str) -> Permission {
        Permission { verb, group: self.group, resource: self.resource, namespace: None }
    }

    /// A request for objects of the kind.
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

/// A list of objects, consistent at one resource version.
#[derive(Debug)]
pub(super) struct Listed<T> {
    pub(super) items: Vec<T>,
    /// The resource version.
    pub(super) version: String,
}

/// Lists all objects of a kind, in all namespaces.
pub(super) async fn list<T: DeserializeOwned>(api: &Api, kind: Kind) -> Result<Listed<T>, ApiError> {
    list_some(api, kind, ListParams::default()).await
}

/// Lists objects of a kind, selected by labels or fields.
pub(super) async fn list_some<T: DeserializeOwned>(
    api: &Api,
    kind: Kind,
    selected: ListParams,
) -> Result<Listed<T>, ApiError> {
    let permission = kind.permission("list");
    let request = kind.request();
    let mut params = selected.clone().limit(PAGE);
    let mut items = Vec::new();
    loop {
        let page: Page<T> = match ask(api, permission.clone(), request.list(&params)).await {
            Ok(page) => page,
            // The server keeps the state of a paged list for a few minutes only. A list in one page needs none.
            Err(ApiError::Gone { .. }) if params.continue_token.is_some() => {
                items.clear();
                params = selected.clone();
                continue;
            }
            Err(error) => return Err(error),
        };
        items.extend(page.items);
        match page.metadata.continue_token.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => return Ok(Listed { items, version: page.metadata.resource_version }),
        }
    }
}

/// Sends a request that needs a permission, and parses the answer.
pub(super) async fn ask<T: DeserializeOwned>(
    api: &Api,
    permission: Permission,
    request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
) -> Result<T, ApiError> {
    let failed = |error| ApiError::of(&api.server, permission, error);
    let request = match request.map_err(kube::Error::BuildRequest) {
        Ok(request) => request,
        Err(error) => return Err(failed(error)),
    };
    match timeout(ANSWER_TIMEOUT, api.client.request(request)).await {
        Ok(answer) => answer.map_err(failed),
        Err(_) => Err(ApiError::Silent { server: api.server.clone(), seconds: ANSWER_TIMEOUT.as_secs() }),
    }
}
