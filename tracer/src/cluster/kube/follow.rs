//! Following the objects of one kind: from a list on, every change of them.
//!
//! kube-runtime has a watcher, which keeps whole objects and brings some dozen crates along; what is needed of it is
//! this.

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::api::{WatchEvent, WatchParams};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::access::Api;
use super::known::Told;
use super::list::{Kind, Listed, list};
use super::objects::Object;
use super::refusal::Refusal;

/// How long the server may take to begin to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The server is asked anew after so many seconds at the latest, by which a connection that is dead is noticed, too.
const ASK_AGAIN: u32 = 240;

/// A stream that ends sooner tells of a server in trouble.
const SOON: Duration = Duration::from_secs(1);

/// Pauses between two attempts: from this one on, twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What is heard of a kind.
#[derive(Debug)]
pub(super) enum Heard<T> {
    /// Something was told of its objects.
    Told(Told<T>),
    /// The server is not to be reached; it is tried again.
    Lost(Refusal),
    /// It is again.
    Back,
    /// It does not tell.
    Refused(Refusal),
}

/// Why a stream ended.
enum Ended {
    /// It has its time, and begins again where it was.
    Orderly,
    /// The server does not know the version any more.
    Forgotten,
    Broken(Refusal),
    /// Nobody listens any more.
    Unwanted,
}

/// Follows a kind from a version on, until the server refuses or nobody listens any more.
pub(super) async fn follow<T>(api: &Api, kind: Kind, mut version: String, to: &mpsc::Sender<Heard<T>>)
where
    T: Object + Clone + DeserializeOwned,
{
    let mut lost = false;
    let mut pause = FIRST_PAUSE;
    loop {
        let began = Instant::now();
        let ended = stream(api, kind, &mut version, &mut lost, to).await;
        let lasted = began.elapsed() >= SOON;
        if lasted {
            pause = FIRST_PAUSE;
        }
        let trouble = match ended {
            Ended::Unwanted => return,
            Ended::Orderly if lasted => continue,
            Ended::Orderly => None,
            // At once, the first time: a connection that broke says nothing of the server. What the server says does.
            Ended::Broken(Refusal::Unreachable { .. }) if lasted => continue,
            Ended::Broken(refusal) => Some(refusal),
            Ended::Forgotten => match list::<T>(api, kind).await {
                Ok(Listed { items, version: now }) => {
                    version = now;
                    if to.send(Heard::Told(Told::All(items))).await.is_err() {
                        return;
                    }
                    None
                }
                Err(refusal) => Some(refusal),
            },
        };
        match trouble {
            Some(refusal @ (Refusal::Forbidden { .. } | Refusal::NotFound { .. })) => {
                // Nobody may be left to hear it.
                let _ = to.send(Heard::Refused(refusal)).await;
                return;
            }
            Some(refusal) if !lost => {
                lost = true;
                if to.send(Heard::Lost(refusal)).await.is_err() {
                    return;
                }
            }
            _ => {}
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Passes on what one answer tells, which goes on until the server ends it.
async fn stream<T>(
    api: &Api,
    kind: Kind,
    version: &mut String,
    lost: &mut bool,
    to: &mpsc::Sender<Heard<T>>,
) -> Ended
where
    T: Object + Clone + DeserializeOwned,
{
    let refused = |error| Refusal::of(&api.server, kind.right("watch"), error);
    let params = WatchParams::default().timeout(ASK_AGAIN);
    let request = match kind.request().watch(&params, version).map_err(kube::Error::BuildRequest) {
        Ok(request) => request,
        Err(error) => return Ended::Broken(refused(error)),
    };
    let events = match timeout(ANSWER_TIMEOUT, api.client.request_events::<T>(request)).await {
        Ok(Ok(events)) => events,
        Ok(Err(error)) => return ended(refused(error)),
        Err(_) => {
            let seconds = ANSWER_TIMEOUT.as_secs();
            return Ended::Broken(Refusal::Silent { server: api.server.clone(), seconds });
        }
    };
    if std::mem::take(lost) && to.send(Heard::Back).await.is_err() {
        return Ended::Unwanted;
    }
    let mut events = pin!(events);
    while let Some(event) = events.next().await {
        let told = match event {
            Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => Told::Is(object),
            Ok(WatchEvent::Deleted(object)) => Told::Gone(object),
            Ok(WatchEvent::Bookmark(bookmark)) => {
                *version = bookmark.metadata.resource_version;
                continue;
            }
            Ok(WatchEvent::Error(status)) => return ended(refused(kube::Error::Api(status))),
            Err(error) => return ended(refused(error)),
        };
        if let Told::Is(object) | Told::Gone(object) = &told {
            version.clone_from(&object.meta().resource_version);
        }
        if to.send(Heard::Told(told)).await.is_err() {
            return Ended::Unwanted;
        }
    }
    Ended::Orderly
}

fn ended(refusal: Refusal) -> Ended {
    match refusal {
        Refusal::Gone { .. } => Ended::Forgotten,
        refusal => Ended::Broken(refusal),
    }
}
