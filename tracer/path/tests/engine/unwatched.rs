//! A trace is complete only if every tap was attached.

use std::collections::BTreeMap;

use podtrace_path::{Context, Engine, Summary, Unwatched};
use podtrace_protocol::frame::{Accounting, Attached, FromAgent, HookState, Mechanism, Updated};

fn hook(point: &str, device: Option<&str>, how: Option<Mechanism>) -> HookState {
    HookState { device: device.map(str::to_owned), mechanism: how, ..HookState::absent(point) }
}

/// The summary of a node that had these hooks, and then these further ones.
fn summary(hooks: Vec<HookState>, later: Vec<HookState>) -> Summary {
    let mut engine = Engine::new(Context { nodes: vec!["node1".to_owned()], ..Context::default() });
    let mut paths = Vec::new();
    for frame in [
        FromAgent::Attached(Attached { hooks, notes: Vec::new(), drop_reasons: BTreeMap::new() }),
        FromAgent::Updated(Updated { hooks: later, ..Updated::default() }),
        FromAgent::Goodbye { counters: Accounting::default() },
    ] {
        engine.ingest(0, &frame, &mut paths);
    }
    engine.finish(&mut paths)
}

#[test]
fn a_tap_that_is_missing_is_named() {
    let tcx = Some(Mechanism::Tcx);
    let whole =
        summary(vec![hook("tc:ingress", Some("cni0"), tcx), hook("fentry:ip_forward", None, None)], vec![]);
    assert!(whole.complete && whole.unwatched.is_empty(), "{whole:?}");

    let place =
        Unwatched { node: "node1".to_owned(), device: "cni0".to_owned(), point: "tc:egress".to_owned() };
    let missing = vec![hook("tc:egress", Some("cni0"), None)];
    let attached_later = vec![hook("tc:egress", Some("cni0"), tcx)];
    for blind in [summary(missing.clone(), attached_later), summary(vec![], missing)] {
        assert!(!blind.complete, "{blind:?}");
        assert_eq!(blind.unwatched, std::slice::from_ref(&place));
    }
}
