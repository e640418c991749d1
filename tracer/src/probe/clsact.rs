//! Looks at a device's clsact qdisc, and removes it. aya only adds them.

use futures_util::TryStreamExt as _;
use netlink_packet_route::tc::{TcAttribute, TcHandle};
use rtnetlink::Handle;

/// Removes a device's clsact qdisc unless it holds a filter. Best effort: the device may no longer exist.
pub(super) fn remove_if_empty(device: &str) {
    on_netlink(device, async |handle, index| {
        let ingress: Vec<_> =
            handle.traffic_filter(index).get().ingress().execute().try_collect().await.ok()?;
        let egress: Vec<_> =
            handle.traffic_filter(index).get().egress().execute().try_collect().await.ok()?;
        if ingress.is_empty() && egress.is_empty() {
            let mut request = handle.qdisc().del(index);
            request.message_mut().header.parent = TcHandle::CLSACT;
            let _ = request.execute().await;
        }
        Some(())
    });
}

/// Whether a device has an `ingress` qdisc in clsact's place. The kernel then takes a filter for the egress side and runs
/// it on ingress.
pub(super) fn is_ingress_only(device: &str) -> bool {
    let found = on_netlink(device, async |handle, index| {
        // Kernels list the qdiscs of all devices, whichever is asked for.
        let qdiscs: Vec<_> = handle.qdisc().get().index(index).execute().try_collect().await.ok()?;
        Some(qdiscs.iter().any(|qdisc| {
            qdisc.header.index == index
                && qdisc.header.parent == TcHandle::CLSACT
                && qdisc.attributes.contains(&TcAttribute::Kind("ingress".to_owned()))
        }))
    });
    found == Some(true)
}

/// Asks the kernel about a device. On a thread with a runtime of its own: the caller may be inside one already, which must
/// not block.
fn on_netlink<T: Send + 'static>(
    device: &str,
    ask: impl AsyncFnOnce(Handle, i32) -> Option<T> + Send + 'static,
) -> Option<T> {
    let index = nix::net::if_::if_nametoindex(device).ok()?;
    let index = i32::try_from(index).ok()?;
    let asked = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().ok()?;
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().ok()?;
            let connection = tokio::spawn(connection);
            let answer = ask(handle, index).await;
            connection.abort();
            answer
        })
    });
    asked.join().ok()?
}
