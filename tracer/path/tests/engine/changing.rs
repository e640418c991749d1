//! What becomes of the cluster while it is traced.

use crate::testkit::*;
use podtrace_path::{Change, ChangeKind, Context, Engine, Path, Summary, Update, Verdict};
use podtrace_protocol::frame::{FilterSpec, FromAgent, Side, Updated};
use podtrace_protocol::inventory::{Delta, Pod};
use podtrace_report::recording::{Header, Item, Reader, Writer};

const MS: u64 = 1_000_000;

/// An input of the engine.
#[derive(Clone)]
enum Input {
    Node(usize, FromAgent),
    Cluster(Box<Update>),
}

fn feed(engine: &mut Engine, input: &Input, paths: &mut Vec<Path>) {
    match input {
        Input::Node(node, frame) => engine.ingest(*node, frame, paths),
        Input::Cluster(update) => engine.update(update),
    }
}

fn play(context: Context, inputs: &[Input]) -> (Vec<Path>, Summary) {
    let mut engine = Engine::new(context);
    let mut paths = Vec::new();
    inputs.iter().for_each(|input| feed(&mut engine, input, &mut paths));
    let summary = engine.finish(&mut paths);
    (paths, summary)
}

/// A scene's frames, and an update before the first one that tells of time.
fn updated(scene: &Scene, update: Update) -> Vec<Input> {
    let mut inputs: Vec<_> =
        scene.frames(100 * MS).into_iter().map(|(node, frame)| Input::Node(node, frame)).collect();
    let is_late =
        |input: &Input| matches!(input, Input::Node(_, FromAgent::Events(_) | FromAgent::Heartbeat { .. }));
    let at = inputs.iter().position(is_late).unwrap();
    inputs.insert(at, Input::Cluster(Box::new(update)));
    inputs
}

fn pod(name: &str, address: [u8; 4]) -> Pod {
    Pod {
        namespace: "default".to_owned(),
        name: name.to_owned(),
        ips: vec![address.into()],
        node: "node1".to_owned(),
        host_network: false,
        owner: None,
        labels: [].into(),
    }
}

fn names(path: &Path) -> (Option<&str>, Option<&str>) {
    (path.from.pod.as_deref(), path.to.pod.as_deref())
}

/// Another pod has pod1's address from half a second on.
fn taken_over() -> (Scene, Update) {
    let mut scene = Scene::new();
    scene.cross(0, &echo(POD1, POD3, 1, 100));
    scene.cross(1_000 * MS, &echo(POD1, POD3, 2, 101));
    let delta = Delta { pods: vec![pod("other", POD1)], ..Delta::default() };
    let changes = vec![Change::of(7, "default/pod1", ChangeKind::Gone)];
    (scene, Update { at_ns: 500 * MS, delta, changes, ..Update::default() })
}

#[test]
fn a_packet_has_the_name_that_was_right_at_its_time() {
    let (scene, update) = taken_over();
    let (paths, summary) = play(scene.context(), &updated(&scene, update));
    assert_eq!(names(&paths[0]), (Some("default/pod1"), Some("default/pod3")));
    assert_eq!(names(&paths[1]), (Some("default/other"), Some("default/pod3")));
    assert!(summary.complete);
}

#[test]
fn a_recording_tells_what_became_of_the_cluster_where_it_did() {
    let (scene, update) = taken_over();
    let inputs = updated(&scene, update.clone());
    let (told, summary) = play(scene.context(), &inputs);
    let mut writer = Writer::new(Header::new(scene.context()));
    let mut engine = Engine::new(scene.context());
    let (mut parts, mut paths) = (vec![Vec::new()], Vec::new());
    for (number, input) in inputs.iter().enumerate() {
        match input {
            Input::Node(node, frame) => writer.frame(*node, Some(frame)),
            Input::Cluster(update) => writer.update(update),
        }
        feed(&mut engine, input, &mut paths);
        paths.drain(..).for_each(|path| writer.path(&path));
        parts.last_mut().unwrap().extend(writer.take());
        if number == inputs.len() / 2 {
            writer.next_part();
            parts.push(writer.take());
        }
    }
    let end = engine.finish(&mut paths);
    paths.iter().for_each(|path| writer.path(path));
    writer.end(&end);
    parts.last_mut().unwrap().extend(writer.take());
    // All parts as one, and the last alone: its header knows what became of the cluster by then.
    let whole = parts.concat();
    let read = |bytes: &[u8]| {
        let mut reader = Reader::new(bytes).unwrap();
        let context = reader.header().context.clone();
        let mut inputs = Vec::new();
        while let Some(next) = reader.next_entry() {
            match next {
                Item::Node(node, Some(frame)) => inputs.push(Input::Node(node, frame)),
                Item::Node(_, None) => {}
                Item::Cluster(update) => inputs.push(Input::Cluster(update)),
            }
        }
        (context, inputs)
    };
    let (context, inputs) = read(&whole);
    assert!(inputs.iter().any(|input| matches!(input, Input::Cluster(read) if **read == update)));
    assert_eq!(play(context, &inputs), (told.clone(), summary));
    let (context, inputs) = read(parts.last().unwrap());
    assert!(context.inventory.pods.iter().any(|pod| pod.name == "other"));
    assert_eq!(names(play(context, &inputs).0.last().unwrap()), names(&told[1]));
}

/// POD1 is looked for from 50 ms on; by 200 ms both nodes have said so. Packets leave and do not arrive.
fn looked_for_anew(leaves_at: u64) -> (Vec<Path>, Summary) {
    let mut scene = Scene::new();
    scene.leave(leaves_at, &echo(POD1, POD3, 1, 100));
    scene.quiet = 6_000 * MS;
    let side = |address: [u8; 4]| Side { addresses: vec![address.into()], ..Side::default() };
    let filter = FilterSpec { from: side(POD1), to: side(POD3), ..FilterSpec::default() };
    let before = FilterSpec { from: side(POD2), ..filter.clone() };
    let mut inputs = updated(&scene, Update { at_ns: 50 * MS, filter: Some(filter), ..Update::default() });
    for node in 0..2 {
        let at_ns = scene.clocks[node] + 200 * MS;
        let updated = Updated { update_id: 50 * MS, at_ns, ..Updated::default() };
        let is_after = |input: &Input| match input {
            Input::Node(of, FromAgent::Heartbeat { now_ns, .. }) => *of == node && *now_ns >= at_ns,
            _ => false,
        };
        let at = inputs.iter().position(is_after).unwrap();
        inputs.insert(at, Input::Node(node, FromAgent::Updated(updated)));
    }
    play(Context { filter: before, ..scene.context() }, &inputs)
}

#[test]
fn what_is_looked_for_on_one_node_and_not_yet_on_the_other_has_not_vanished() {
    let (paths, _) = looked_for_anew(100 * MS);
    assert_eq!(paths[0].verdict, Verdict::Open);
    assert_eq!(paths[0].reason.as_deref(), Some("the trace filter changed while it was in flight"));
    let (paths, _) = looked_for_anew(300 * MS);
    assert_eq!(paths[0].verdict, Verdict::Vanished);
}

#[test]
fn a_node_that_joins_is_part_of_the_paths_from_then_on() {
    for skew in [0, 3_600_000 * MS] {
        let mut scene = Scene::new();
        scene.clocks = [5_000 * MS, 5_000 * MS + skew];
        scene.bridge(0, &echo(POD1, POD2, 1, 100));
        scene.cross(1_000 * MS, &echo(POD1, POD3, 2, 101));
        let until = scene.clocks[1] + 500 * MS;
        let mut context = scene.context();
        context.nodes.truncate(1);
        let (mut inputs, mut is_in, mut heads) = (Vec::new(), false, Vec::new());
        for (node, frame) in scene.frames(100 * MS) {
            match &frame {
                // It is being set up.
                FromAgent::Heartbeat { now_ns, .. } if node == 1 && *now_ns < until => continue,
                FromAgent::Heartbeat { .. } if node == 1 && !is_in => {
                    is_in = true;
                    let joined = vec!["node2".to_owned()];
                    let update = Update { at_ns: 500 * MS, joined, ..Update::default() };
                    inputs.push(Input::Cluster(Box::new(update)));
                    inputs.append(&mut heads);
                }
                _ => {}
            }
            let input = Input::Node(node, frame);
            if node == 1 && !is_in { heads.push(input) } else { inputs.push(input) }
        }
        let (paths, summary) = play(context, &inputs);
        assert_eq!(paths.len(), 2);
        assert_eq!(steps(&paths[1]), CROSSING);
        assert!(summary.complete, "{summary:?}");
    }
}

#[test]
fn a_trace_that_is_blind_for_something_is_not_complete() {
    let mut scene = Scene::new();
    scene.cross(0, &echo(POD1, POD3, 1, 100));
    let (_, summary) = play(scene.context(), &updated(&scene, Update { blind: true, ..Update::default() }));
    assert!(!summary.complete);
}
