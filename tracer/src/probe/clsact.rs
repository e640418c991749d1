//! Removes a clsact qdisc. aya only adds them.

use futures_util::TryStreamExt as _;
use netlink_packet_route::tc::TcHandle;

/// Removes a device's clsact qdisc unless it holds a filter. Best effort: the device may no longer exist.
pub(super) fn remove_if_empty(device: &str) {
    let Ok(index) = nix::net::if_::if_nametoindex(device) else { return };
    let Ok(index) = i32::try_from(index) else { return };
    // On a thread with a runtime of its own: the caller may be inside one already, which must not block.
    let _ = std::thread::spawn(move || -> Option<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().ok()?;
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().ok()?;
            let connection = tokio::spawn(connection);
            let ingress: Vec<_> =
                handle.traffic_filter(index).get().ingress().execute().try_collect().await.ok()?;
            let egress: Vec<_> =
                handle.traffic_filter(index).get().egress().execute().try_collect().await.ok()?;
            if ingress.is_empty() && egress.is_empty() {
                let mut request = handle.qdisc().del(index);
                request.message_mut().header.parent = TcHandle::CLSACT;
                let _ = request.execute().await;
            }
            connection.abort();
            Some(())
        })
    })
    .join();
}
