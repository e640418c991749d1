//! Watches the objects of one kind, from a list on.
//!
//! 1. Watch from the resource version of the list, and pass each event on.
//! 2. When the server ends the watch, as it does every few minutes, continue from the last event's version.
//! 3. When the server no longer has that version (410 Gone), list everything again.
//! 4. When the connection or the server fails, report it once and retry with growing pauses; report when it works again.
//! 5. When the server denies the watch, report that and stop.
//!
//! Written by hand because kube-runtime's watcher keeps whole objects and adds some dozen crates.

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::api::{WatchEvent, WatchParams};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::access::Api;
use super::error::ApiError;
use super::known::Change;
use super::list::{Kind, Listed, list};
use super::objects::Object;

/// Time limit for the beginning of an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Duration of one watch in seconds. Starting again also detects a dead connection.
const WATCH_SECONDS: u32 = 240;

/// A watch that ends sooner than this counts as a failure.
const SHORTEST_WATCH: Duration = Duration::from_secs(1);

/// Pauses between attempts: the first one, doubled each time up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What happens while the objects of a kind are watched.
#[derive(Debug)]
pub(super) enum WatchNews<T> {
    /// Objects have changed.
    Change(Change<T>),
    /// The server cannot be reached; retrying.
    Lost(ApiError),
    /// The server can be reached again.
    Back,
    /// The server denies the watch; giving up.
    Denied(ApiError),
}

/// Why a watch ended.
enum Ended {
    /// Its time is over; continue from the last version.
    Finished,
    /// The server no longer has the version.
    Expired,
    Failed(ApiError),
    /// The receiver is closed.
    Unwanted,
}

/// Watches a kind from a version on, until the server denies it or the receiver is closed.
pub(super) async fn follow<T>(api: &Api, kind: Kind, mut version: String, to: &mpsc::Sender<WatchNews<T>>)
where
    T: Object + Clone + DeserializeOwned,
{
    let mut lost = false;
    let mut pause = FIRST_PAUSE;
    loop {
        let began = Instant::now();
        let ended = watch(api, kind, &mut version, &mut lost, to).await;
        let lasted = began.elapsed() >= SHORTEST_WATCH;
        if lasted {
            pause = FIRST_PAUSE;
        }
        let error = match ended {
            Ended::Unwanted => return,
            Ended::Finished if lasted => continue,
            Ended::Finished => None,
            // A broken connection says nothing about the server: retry without a pause the first time.
            Ended::Failed(ApiError::Unreachable { .. }) if lasted => continue,
            Ended::Failed(error) => Some(error),
            Ended::Expired => match list::<T>(api, kind).await {
                Ok(Listed { items, version: now }) => {
                    version = now;
                    if to.send(WatchNews::Change(Change::All(items))).await.is_err() {
                        return;
                    }
                    None
                }
                Err(error) => Some(error),
            },
        };
        match error {
            Some(error @ (ApiError::Forbidden { .. } | ApiError::NotFound { .. })) => {
                // The receiver may be closed, which is no error.
                let _ = to.send(WatchNews::Denied(error)).await;
                return;
            }
            Some(error) if !lost => {
                lost = true;
                if to.send(WatchNews::Lost(error)).await.is_err() {
                    return;
                }
            }
            _ => {}
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Passes on the events of one watch.
async fn watch<T>(
    api: &Api,
    kind: Kind,
    version: &mut String,
    lost: &mut bool,
    to: &mpsc::Sender<WatchNews<T>>,
) -> Ended
where
    T: Object + Clone + DeserializeOwned,
{
    let failed = |error| ApiError::of(&api.server, kind.permission("watch"), error);
    let params = WatchParams::default().timeout(WATCH_SECONDS);
    let request = match kind.request().watch(&params, version).map_err(kube::Error::BuildRequest) {
        Ok(request) => request,
        Err(error) => return Ended::Failed(failed(error)),
    };
    let events = match timeout(ANSWER_TIMEOUT, api.client.request_events::<T>(request)).await {
        Ok(Ok(events)) => events,
        Ok(Err(error)) => return ended(failed(error)),
        Err(_) => {
            let seconds = ANSWER_TIMEOUT.as_secs();
            return Ended::Failed(ApiError::Silent { server: api.server.clone(), seconds });
        }
    };
    if std::mem::take(lost) && to.send(WatchNews::Back).await.is_err() {
        return Ended::Unwanted;
    }
    let mut events = pin!(events);
    while let Some(event) = events.next().await {
        let change = match event {
            Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => Change::Set(object),
            Ok(WatchEvent::Deleted(object)) => Change::Deleted(object),
            Ok(WatchEvent::Bookmark(bookmark)) => {
                *version = bookmark.metadata.resource_version;
                continue;
            }
            Ok(WatchEvent::Error(status)) => return ended(failed(kube::Error::Api(status))),
            Err(error) => return ended(failed(error)),
        };
        if let Change::Set(object) | Change::Deleted(object) = &change {
            version.clone_from(&object.meta().resource_version);
        }
        if to.send(WatchNews::Change(change)).await.is_err() {
            return Ended::Unwanted;
        }
    }
    Ended::Finished
}

fn ended(error: ApiError) -> Ended {
    match error {
        ApiError::Gone { .. } => Ended::Expired,
        error => Ended::Failed(error),
    }
}
