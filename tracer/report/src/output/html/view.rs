//! The JSON data of the HTML page: texts, already escaped, and the numbers that the page sorts and draws by.
//!
//! The texts are those of the text output, so that a hop is described the same everywhere. To show a new field of a [`Hop`],
//! add it to [`facts`]; the page's script need not change.

use serde::{Serialize, Serializer};

use crate::output::change;
use crate::output::phrase::{BAD, CHANGED, DIM, DOUBT, GOOD, LOUD, Phrase, WIRE};
use crate::output::text::QUEUED;
use crate::output::timing::{Step, Unit, span, steps};
use crate::output::verdict;
use crate::output::words::{
    address, bytes, describe_hop, drop_reason, endpoint_name, protocol, resolution, route, start_time,
    thousands, timestamp, tuple,
};
use podtrace_escape::escape;
use podtrace_path::{
    Action, Change, ConnState, ConnectionSeen, Direction, End, Evidence, Hop, HopEvent, Nat, Outer, Path,
    Summary, Tuple, Verdict, VerdictCounts,
};

/// Text from outside, escaped.
#[derive(Debug)]
struct Text(String);

impl Text {
    fn new(text: impl AsRef<str>) -> Self {
        Self(escape(text.as_ref()).into_owned())
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Styled text: each piece as `[class, text]`, or as `text` without a class.
#[derive(Debug, Serialize)]
struct Spans(Vec<Span>);

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Span {
    Plain(String),
    Styled(&'static str, String),
}

impl Spans {
    fn new(phrase: &Phrase) -> Self {
        let mut spans: Vec<Span> = Vec::new();
        for (style, text) in phrase.pieces() {
            let class = match style {
                CHANGED => "new",
                BAD | LOUD => "bad",
                DOUBT => "doubt",
                GOOD => "good",
                DIM | WIRE => "dim",
                _ => "",
            };
            match (spans.last_mut(), class) {
                (Some(Span::Plain(before)), "") => before.push_str(text),
                (_, "") => spans.push(Span::Plain(text.to_owned())),
                _ => spans.push(Span::Styled(class, text.to_owned())),
            }
        }
        Self(spans)
    }
}

/// What was traced, by which version of podtrace.
#[derive(Debug, Serialize)]
pub(super) struct TraceView {
    title: Text,
    version: &'static str,
}

impl TraceView {
    pub(super) fn new(title: &str) -> Self {
        Self { title: Text::new(title), version: env!("CARGO_PKG_VERSION") }
    }
}

/// A cluster change.
#[derive(Debug, Serialize)]
pub(super) struct ChangeView {
    at: String,
    words: Spans,
}

impl ChangeView {
    pub(super) fn new(change: &Change) -> Self {
        Self { at: timestamp(change.at), words: Spans::new(&change::describe(change)) }
    }
}

/// The summary of the trace.
#[derive(Debug, Serialize)]
pub(super) struct SummaryView {
    complete: bool,
    paths: VerdictCounts,
    lines: Vec<Spans>,
}

impl SummaryView {
    pub(super) fn new(summary: &Summary, lines: &[Phrase]) -> Self {
        let Summary { paths, events: _, complete, unwatched: _, shed: _, sample: _, drops: _ } = summary;
        Self { complete: *complete, paths: *paths, lines: lines.iter().map(Spans::new).collect() }
    }
}

/// One path.
#[derive(Debug, Serialize)]
pub(super) struct PathView {
    id: u64,
    verdict: Verdict,
    flow: u64,
    direction: Direction,
    proto: String,
    label: Text,
    from: EndView,
    to: EndView,
    bytes: u32,
    size: String,
    payload: String,
    started: String,
    took_ns: i64,
    took: String,
    ending: Spans,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    advice: Vec<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    doubt: Option<String>,
    hops: Vec<HopView>,
}

#[derive(Debug, Serialize)]
struct EndView {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<Text>,
    address: String,
}

impl EndView {
    fn new(end: &End) -> Self {
        Self { name: endpoint_name(end).map(Text::new), address: address(end.ip, end.port) }
    }
}

impl PathView {
    pub(super) fn new(path: &Path) -> Self {
        let unit = Unit::of(path);
        let mut previous = None;
        let mut hops = Vec::with_capacity(path.hops.len());
        for (hop, step) in path.hops.iter().zip(steps(&path.hops)) {
            hops.push(HopView::new(path, hop, previous, step, unit));
            previous = Some(hop);
        }
        Self {
            id: path.id,
            verdict: path.verdict,
            flow: path.flow.id,
            direction: path.flow.direction,
            proto: protocol(path.proto),
            label: Text::new(&path.label),
            from: EndView::new(&path.from),
            to: EndView::new(&path.to),
            bytes: path.bytes,
            size: bytes(path.bytes),
            payload: bytes(path.payload),
            started: start_time(path),
            took_ns: path.duration_ns,
            took: unit.duration(path.duration_ns, path.duration_error_ns),
            ending: Spans::new(&verdict::ending(path, unit)),
            advice: verdict::all_advice(path).map(Text::new).collect(),
            doubt: verdict::doubt(path),
            hops,
        }
    }
}

/// One hop.
#[derive(Debug, Serialize)]
struct HopView {
    node: Text,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<Text>,
    action: Action,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    inferred: bool,
    /// The hook point.
    #[serde(skip_serializing_if = "Option::is_none")]
    seen: Option<String>,
    /// Since the first hop.
    #[serde(skip_serializing_if = "Option::is_none")]
    at_ns: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<String>,
    /// Since the previous hop that has a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    step_ns: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<String>,
    what: Spans,
    /// Source and destination after this hop; omitted if unchanged.
    #[serde(skip_serializing_if = "Option::is_none")]
    addresses: Option<(String, String)>,
    /// The tunnel header after this hop.
    #[serde(skip_serializing_if = "Option::is_none")]
    outer: Option<OuterView>,
    /// Whether the packet is in a tunnel before and after this hop; omitted if neither.
    #[serde(skip_serializing_if = "Option::is_none")]
    tunnel: Option<(bool, bool)>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dropped: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<Text>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    facts: Vec<(&'static str, Text)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    events: Vec<EventView>,
}

#[derive(Debug, Serialize)]
struct OuterView {
    name: Text,
    src: String,
    dst: String,
    overhead: u32,
}

impl HopView {
    fn new(path: &Path, hop: &Hop, previous: Option<&Hop>, step: Option<Step>, unit: Unit) -> Self {
        let tunnel = tunnel(hop);
        let outer = hop.outer.as_ref().filter(|_| tunnel.1);
        let stack = hop.events.iter().filter(|event| event.point.is_step());
        let is_unchanged = previous.is_some_and(|previous| previous.tuple == hop.tuple);
        Self {
            node: Text::new(&hop.node),
            device: hop.device.as_deref().map(Text::new),
            action: hop.action,
            inferred: hop.evidence == Evidence::Inferred,
            seen: hop.point.map(|point| point.to_string()),
            at_ns: hop.at_ns,
            at: hop.at_ns.map(|at| {
                let number = unit.signed(at);
                match hop.clock_error_ns {
                    0 => format!("{number} {}", unit.symbol()),
                    error => format!("{number} {}", unit.error(error)),
                }
            }),
            step_ns: step.map(|step| step.delta_ns),
            error_ns: step.and_then(|step| step.error_ns),
            step: step.map(|step| {
                let number = unit.signed(step.delta_ns);
                match step.error_ns {
                    Some(error) => format!("{number} {}", unit.error(error)),
                    None => format!("{number} {}", unit.symbol()),
                }
            }),
            what: Spans::new(&description(hop, previous)),
            addresses: (!is_unchanged).then(|| {
                let Tuple { src, dst, proto: _, sport, dport } = hop.tuple;
                (address(src, sport), address(dst, dport))
            }),
            outer: outer.map(|outer| OuterView {
                name: Text::new(tunnel_name(outer)),
                src: address(outer.src, outer.sport),
                dst: address(outer.dst, outer.dport),
                overhead: outer.overhead,
            }),
            tunnel: (tunnel != (false, false)).then_some(tunnel),
            dropped: hop.drop.is_some(),
            advice: hop.drop.as_ref().and_then(|drop| drop.advice.as_ref()).map(Text::new),
            facts: facts(path, hop),
            events: stack.map(|event| EventView::new(event, hop)).collect(),
        }
    }
}

/// Describes a hop, including the time in the device's queue, for which the page has no separate row.
fn description(hop: &Hop, previous: Option<&Hop>) -> Phrase {
    let mut phrase = describe_hop(hop, previous);
    if let Some(queued) = hop.queued_ns {
        phrase.append(CHANGED, format!("{QUEUED} for {}", span(queued)));
    }
    phrase
}

/// Whether the packet is in a tunnel before and after a hop.
fn tunnel(hop: &Hop) -> (bool, bool) {
    match hop.action {
        Action::Encapsulate => (false, true),
        Action::Decapsulate => (true, false),
        _ => (hop.outer.is_some(), hop.outer.is_some()),
    }
}

fn tunnel_name(outer: &Outer) -> String {
    match outer.vni {
        Some(vni) => format!("{} vni {vni}", outer.kind),
        None => outer.kind.to_string(),
    }
}

/// What else is known of a hop and does not go without saying, in the order in which it is asked for.
fn facts(path: &Path, hop: &Hop) -> Vec<(&'static str, Text)> {
    // Whole, so that a new field is not forgotten.
    let Hop {
        index: _,
        node: _,
        device: _,
        point: _,
        action: _,
        at_ns: _,
        clock_error_ns: _,
        evidence: _,
        tuple: _,
        bytes: size,
        packets,
        merged,
        outer,
        nat,
        conntrack,
        route: taken,
        pod,
        drop,
        neighbour,
        queued_ns,
        flooded: _,
        events: _,
        sources: _,
    } = hop;
    let mut facts = Vec::new();
    let mut add = |name: &'static str, text: String| facts.push((name, Text::new(text)));
    if let Some(drop) = drop {
        add("dropped", drop_reason(drop));
    }
    if let Some(pod) = pod {
        add("pod", pod.to_string());
    }
    if (*size, *packets, *merged) != (path.bytes, 1, false) {
        let mut shape = bytes(*size);
        if *packets != 1 {
            shape.push_str(&format!(", {} packets", thousands(u64::from(*packets))));
        }
        if *merged {
            shape.push_str(", merged with other segments");
        }
        add("length", shape);
    }
    if let Some(outer) = outer.as_ref().filter(|_| hop.action == Action::Decapsulate) {
        let Outer { kind: _, vni: _, src, dst, sport, dport, overhead } = outer;
        let (src, dst) = (address(*src, *sport), address(*dst, *dport));
        add("removed header", format!("{}, {src} → {dst}, {overhead} B", tunnel_name(outer)));
    }
    if let Some(taken) = taken {
        let source = match taken.evidence {
            Evidence::Observed => "from the kernel's route lookup",
            Evidence::Inferred => "inferred from the routing table and the next device",
        };
        add("route", format!("{} ({source})", route(taken)));
    }
    if let Some(neighbour) = neighbour {
        add("next hop", resolution(neighbour));
    }
    if let Some(queued) = queued_ns {
        add("queued", span(*queued));
    }
    if let Some(Nat { kind: _, before, after, service: _, rule }) = nat {
        add("before translation", tuple(before));
        add("after translation", tuple(after));
        if let Some(rule) = rule {
            add("rule", rule.to_string());
            if let Some(text) = &rule.rule {
                add("rule text", text.clone());
            }
        }
    }
    if let Some(connection) = conntrack {
        let ConnectionSeen { state: _, direction: _, status: _, original, reply, zone, mark } = &**connection;
        add("connection", connection_state(connection));
        add("original tuple", tuple(original));
        add("reply tuple", tuple(reply));
        if (*zone, *mark) != (0, 0) {
            add("zone, mark", format!("{zone}, {mark:#x}"));
        }
    }
    facts
}

fn connection_state(connection: &ConnectionSeen) -> String {
    let state = match connection.state {
        ConnState::New => "NEW",
        ConnState::Established => "ESTABLISHED",
        ConnState::Related => "RELATED",
    };
    let way = match connection.direction {
        Direction::Request => "original direction",
        Direction::Reply => "reply direction",
    };
    [state, way]
        .into_iter()
        .chain(connection.status.iter().map(String::as_str))
        .collect::<Vec<_>>()
        .join(", ")
}

/// An observation of a hook in the network stack, which belongs to a hop.
#[derive(Debug, Serialize)]
struct EventView {
    point: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<Text>,
    /// Time relative to the hop; negative if this hook saw the packet first.
    since: String,
}

impl EventView {
    fn new(event: &HopEvent, hop: &Hop) -> Self {
        let HopEvent { point, device: _, at_ns, detail } = event;
        let since = at_ns - hop.at_ns.unwrap_or(*at_ns);
        Self {
            point: point.to_string(),
            detail: detail.as_ref().map(Text::new),
            since: format!("{} {}", Unit::Microseconds.signed(since), Unit::Microseconds.symbol()),
        }
    }
}
