// Draws the selected path. Each node is a lane, each device a station on the packet's line. A tube marks the tunnel, where
// the packet is drawn inside its outer header.

const LANE = 168;
const TRACK = 24;
const HEIGHT = 46;
const MIDDLE = HEIGHT / 2;

/**
 * Draws a path into an element. `open` is the index of the hop whose details are shown; `neighbours` are the previous and
 * the next packet of the flow, which can be selected; `data` has all paths of the page.
 */
function showPath(place, path, open, neighbours, pick, data) {
  const lanes = [...new Set(path.hops.map((hop) => hop.node))];
  const colours = addressColours(path);
  const rows = [];
  const scale = timeScale(path);
  const first = path.hops[0];
  if (first) rows.push(endRow(lanes, first.node, "start", path.from, startsInside(path)));
  path.hops.forEach((hop, at) => {
    const before = path.hops[at - 1];
    if (before && before.node !== hop.node) rows.push(wireRow(lanes, before, hop, scale));
    rows.push(hopRow(lanes, path, at, colours, scale, at === open));
  });
  rows.push(lastRow(lanes, path));
  const picture = make("div", { class: "picture" },
    make("div", { class: "step lane-names" },
      make("div", { class: "track" }, ...lanes.map((name) => make("div", { class: "lane" }, name))),
      make("div", { class: "what" }, "what happened"),
      make("div", { class: "packet" }, "packet after the hop"),
      make("div", { class: "time" }, "time since previous hop")),
    ...rows.filter((row) => row));
  picture.style.setProperty("--track", `${Math.max(lanes.length, 1) * LANE}px`);
  const more = [timeLine(path, data.flows.get(path.flow), pick), distributions(path, data.paths), deviceMap(path, data.paths)];
  place.replaceChildren(head(path, neighbours, pick), picture, legend(path), ...more.filter((part) => part));
}

/** The header: packet, verdict and advice. */
function head(path, neighbours, pick) {
  const { mark } = verdictOf(path);
  const way = path.direction === "request" ? "request" : "reply";
  return make("div", { class: "path-head" },
    make("h2", {}, `#${path.id}  `, make("span", { class: "packet-name" }, path.packet), "  ",
      make("b", {}, path.from.name ?? ""), ` ${path.from.address} → `, make("b", {}, path.to.name ?? ""),
      ` ${path.to.address}`),
    make("div", { class: `verdict ${path.verdict}`, role: "status" },
      make("span", { class: "mark", "aria-hidden": "true" }, mark),
      make("div", {},
        make("p", { class: "ending" }, ...spans(unmarked(path.ending))),
        ...toDo(path).map(advice),
        path.doubt ? make("p", { class: "doubt" }, path.doubt) : null)),
    make("p", { class: "facts" },
      neighbour(neighbours[0], "before", pick), `${way} of flow ${path.flow}`, neighbour(neighbours[1], "after", pick),
      ` · ${path.size}, payload ${path.payload} · started ${path.started.replace("T", " ").replace("Z", " UTC")}`));
}

/** The path's advice, or else that of its drops. */
function toDo(path) {
  if (path.advice) return path.advice;
  return path.verdict === "delivered" ? [] : path.hops.flatMap((hop) => hop.advice ?? []);
}

function advice(text) {
  return make("p", { class: "advice" }, "↳ ", ...code(text));
}

/** The verdict without its leading mark: the page draws its own. */
function unmarked([first, ...rest]) {
  const strip = (text) => text.replace(/^[✓✗?!…] /u, "");
  return [typeof first === "string" ? strip(first) : [first[0], strip(first[1])], ...rest];
}

/** A button that selects another packet of the flow. */
function neighbour(path, where, pick) {
  if (path === undefined) return null;
  const text = where === "before" ? `◂ #${path.id}` : `#${path.id} ▸`;
  return make("button", { type: "button", class: "neighbour", title: `${path.packet}, the ${where === "before" ? "previous" : "next"} packet of this flow`,
    onclick: () => pick(path) }, text);
}

/** Text with commands in backquotes. */
function code(text) {
  return text.split("`").map((piece, index) => (index % 2 ? make("code", {}, piece) : piece));
}

function legend(path) {
  const tunnel = path.hops.some((hop) => hop.tunnel[0] || hop.tunnel[1]);
  const inferred = path.hops.some((hop) => hop.inferred);
  const entries = [
    tunnel ? make("span", {}, make("i", { class: "key tube" }), "inside a tunnel: the packet is encapsulated") : null,
    inferred ? make("span", {}, make("i", { class: "key inferred" }), "≈ inferred, not observed") : null,
    make("span", {}, "address colours: a change of colour is a translation (NAT)"),
  ];
  return make("p", { class: "legend" }, ...entries);
}

/** Assigns a colour to each address of the path, in order of occurrence. */
function addressColours(path) {
  const colours = new Map();
  for (const hop of path.hops) {
    for (const address of [hop.src, hop.dst]) {
      if (!colours.has(address)) colours.set(address, `address-${colours.size % 6}`);
    }
  }
  return colours;
}

/** Position of a time within the path's duration, from 0 to 1. */
function timeScale(path) {
  const times = path.hops.map((hop) => hop.at_ns).filter((at) => at !== undefined);
  const start = Math.min(0, ...times);
  const length = Math.max(...times, 0) - start;
  return length > 0 ? (at) => (at - start) / length : null;
}

function step(kind, track, what, packet, time) {
  return make("div", { class: `step ${kind}` }, track, what, packet, time);
}

/**
 * The lanes of a row: a drawing in the background, a label beside the station. `on` extends the packet's line below the
 * drawing if the row is higher.
 */
function track(lanes, lane, label, drawing, on = []) {
  const width = Math.max(lanes.length, 1) * LANE;
  const hidden = { width, "aria-hidden": "true" };
  const backgrounds = lanes.map(() => make("div", { class: "lane" }));
  if (backgrounds[lane] && label) backgrounds[lane].append(label);
  return make("div", { class: "track" }, ...backgrounds,
    draw("svg", { ...hidden, class: "below", viewBox: `0 0 ${width} 100`, preserveAspectRatio: "none" }, ...on),
    draw("svg", { ...hidden, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}` }, ...drawing));
}

function x(lane) {
  return lane * LANE + TRACK;
}

/** A piece of the packet's line, with a tube around it if it is in a tunnel. */
function way(kind, tube, d) {
  const pieces = [];
  if (tube) pieces.push(draw("path", { class: "tube-wall", d }), draw("path", { class: "tube", d }));
  pieces.push(draw("path", { class: `line ${kind}`, d }));
  return pieces;
}

function down(lane, from, to) {
  return `M${x(lane)} ${from}V${to}`;
}

/** Puts tubes behind lines, so that pieces join without a seam. */
function layered(pieces) {
  const layers = { "tube-wall": 0, tube: 1 };
  const layer = (piece) => layers[piece.getAttribute("class")] ?? 2;
  return [...pieces].sort((left, right) => layer(left) - layer(right));
}

function startsInside(path) {
  return path.hops[0].tunnel[0];
}

function endRow(lanes, node, kind, end, tube) {
  const lane = lanes.indexOf(node);
  const label = end.name === undefined ? make("span", { class: "pod address" }, end.address)
    : make("span", { class: "pod", title: end.name }, end.name.split("/").pop());
  const line = kind === "start" ? down(lane, MIDDLE, HEIGHT) : down(lane, 0, MIDDLE);
  return step(`end ${kind}`,
    track(lanes, lane, label, [...way("", tube, line), podMark(lane)],
      kind === "start" ? way("", tube, down(lane, 0, 100)) : []),
    make("div", { class: "what" }, make("span", { class: "dim" }, end.name ? end.address : "")),
    make("div", { class: "packet" }), make("div", { class: "time" }));
}

function podMark(lane) {
  return draw("rect", { class: "pod-mark", x: x(lane) - 9, y: MIDDLE - 9, width: 18, height: 18, rx: 4 });
}

/** The row after the last hop: how the path ended. */
function lastRow(lanes, path) {
  const last = path.hops[path.hops.length - 1];
  if (!last) return null;
  const lane = lanes.indexOf(last.node);
  const tube = last.tunnel[1];
  const { mark, word } = verdictOf(path);
  if (path.verdict === "delivered") {
    const row = endRow(lanes, last.node, "arrived", path.to, tube);
    row.querySelector(".what").prepend(make("span", { class: "badge delivered" }, `${mark} ${word}`), " ");
    row.querySelector(".time").append(make("span", { class: "number total" }, path.took));
    return row;
  }
  // A drop ends the line at its own station.
  const line = last.dropped ? [] : way(path.verdict === "open" ? "open" : "lost", tube, down(lane, 0, MIDDLE));
  const stop = draw("g", { class: `stop ${path.verdict}` },
    draw("circle", { cx: x(lane), cy: MIDDLE, r: 13 }),
    draw("text", { x: x(lane), y: MIDDLE + 6, "text-anchor": "middle" }, mark));
  return step(`end ${path.verdict}`,
    track(lanes, lane, make("span", { class: `badge ${path.verdict}` }, word), [...line, stop]),
    make("div", { class: "what" }, ...spans(unmarked(path.ending))),
    make("div", { class: "packet" }), make("div", { class: "time" }));
}

/** The row between two nodes. */
function wireRow(lanes, from, to, scale) {
  const [left, right] = [lanes.indexOf(from.node), lanes.indexOf(to.node)];
  const tube = from.tunnel[1] || to.tunnel[0];
  const d = `M${x(left)} 0C${x(left)} ${HEIGHT * 0.7} ${x(right)} ${HEIGHT * 0.3} ${x(right)} ${HEIGHT}`;
  const name = from.outer ? `${from.outer.name}: ${from.outer.src} → ${from.outer.dst}` : "";
  return step("wire",
    track(lanes, left, null, way("wire", tube, d), way("wire", tube, down(right, 0, 100))),
    make("div", { class: "what" }, `wire  ${from.node} ⇒ ${to.node}`),
    make("div", { class: "packet dim" }, name),
    timeCell(to, scale));
}

function hopRow(lanes, path, at, colours, scale, open) {
  const hop = path.hops[at];
  const before = path.hops[at - 1];
  const after = path.hops[at + 1];
  const lane = lanes.indexOf(hop.node);
  const into = before ? hop.tunnel[0] || (before.tunnel[1] && before.node === hop.node) : hop.tunnel[0];
  const out = after ? hop.tunnel[1] || (after.tunnel[0] && after.node === hop.node) : hop.tunnel[1];
  const kind = hop.inferred ? "inferred" : "";
  const ends = hop.dropped && !after;
  const pieces = layered([
    ...way(kind, into, down(lane, 0, MIDDLE)),
    ...(ends ? [] : way(kind, out, down(lane, MIDDLE, HEIGHT))),
  ]);
  const label = make("span", { class: `station ${kind}`, title: hop.device ?? "" }, hop.device ?? "–");
  const crossed = before && before.node !== hop.node;
  // Created when first opened.
  const details = make("div", { class: "details", id: `hop-${at}`, hidden: "" });
  const show = (shown) => {
    if (shown && !details.hasChildNodes()) details.append(headerBoxes(headers(path, hop)), factList(facts(hop)), eventList(hop.events));
    details.hidden = !shown;
  };
  show(open);
  const button = make("button", { type: "button", class: "what", "aria-expanded": `${open}`, "aria-controls": `hop-${at}`,
    onclick: (event) => {
      show(details.hidden);
      event.currentTarget.setAttribute("aria-expanded", !details.hidden);
      noteHop(details.hidden ? null : at);
    } }, ...spans(hop.what));
  const row = step(`hop ${kind} ${hop.dropped ? "dropped" : ""}`,
    track(lanes, lane, label, [...pieces, station(lane, hop)], ends ? [] : way(kind, out, down(lane, 0, 100))),
    button,
    packet(hop, before, colours),
    crossed ? make("div", { class: "time" }) : timeCell(hop, scale));
  // The end's advice stands above the picture.
  if (hop.advice && !toDo(path).includes(hop.advice)) row.append(advice(hop.advice));
  row.append(details);
  return row;
}

function station(lane, hop) {
  if (hop.dropped) {
    return draw("g", { class: "stop dropped" },
      draw("circle", { cx: x(lane), cy: MIDDLE, r: 10 }),
      draw("path", { d: `M${x(lane) - 5} ${MIDDLE - 5}l10 10m0 -10l-10 10` }));
  }
  const changes = hop.action === "encapsulate" || hop.action === "decapsulate";
  return draw("circle", { class: `dot ${hop.inferred ? "inferred" : ""} ${changes ? "tunnel" : ""}`,
    cx: x(lane), cy: MIDDLE, r: changes ? 8 : 6 });
}

/** The packet as nested boxes: inner addresses inside the outer ones. */
function packet(hop, before, colours) {
  const address = (text, was) =>
    make("span", { class: `${colours.get(text)} ${was !== undefined && was !== text ? "changed" : ""}` }, text);
  const inner = make("span", { class: "box inner" },
    address(hop.src, before?.src), " → ", address(hop.dst, before?.dst));
  if (!hop.outer) return make("div", { class: "packet" }, inner);
  const { name, src, dst } = hop.outer;
  return make("div", { class: "packet" },
    make("span", { class: "box outer", title: `${src} → ${dst}` },
      make("span", { class: "outer-name" }, name), inner));
}

function timeCell(hop, scale) {
  if (hop.at_ns === undefined) return make("div", { class: "time dim" }, "no time");
  const cell = make("div", { class: "time" });
  if (hop.step_ns === undefined) return cell;
  cell.append(make("span", { class: "number" }, hop.step ?? ""));
  if (scale) cell.append(bar(hop, scale));
  return cell;
}

/** A bar for start and duration of the step, relative to the path; the clock error is hatched. */
function bar(hop, scale) {
  const clamp = (share) => Math.min(Math.max(share, 0), 1);
  const [from, to] = [clamp(scale(hop.at_ns - hop.step_ns)), clamp(scale(hop.at_ns))];
  const left = Math.min(from, to, 0.99);
  const pieces = [piece("took", left, Math.max(Math.abs(to - from), 0.01))];
  if (hop.error_ns) {
    const [low, high] = [clamp(scale(hop.at_ns - hop.error_ns)), clamp(scale(hop.at_ns + hop.error_ns))];
    pieces.push(piece("error", low, high - low));
  }
  return make("span", { class: "bar", "aria-hidden": "true" }, ...pieces);
}

function piece(kind, left, width) {
  const element = make("i", { class: kind });
  element.style.left = `${left * 100}%`;
  element.style.width = `${width * 100}%`;
  return element;
}

/** The packet's known headers after a hop, outermost first. */
function headers(path, hop) {
  const headers = [];
  const ip = ([from], [to]) => headers.push([from.includes(":") ? "IPv6" : "IPv4", `${from} → ${to}`]);
  if (hop.outer) {
    const ends = [addressAndPort(hop.outer.src), addressAndPort(hop.outer.dst)];
    ip(...ends);
    if (ends[0][1] && ends[1][1]) headers.push(["UDP", `${ends[0][1]} → ${ends[1][1]}`]);
    const [kind, ...network] = hop.outer.name.split(" ");
    headers.push([kind.toUpperCase(), `${network.join(" ")}  (+${hop.outer.overhead} B total)`]);
  }
  const ends = [addressAndPort(hop.src), addressAndPort(hop.dst)];
  ip(...ends);
  const ports = ends[0][1] && ends[1][1] ? `${ends[0][1]} → ${ends[1][1]}  ` : "";
  headers.push([path.proto.toUpperCase(), ports + path.label]);
  if (path.payload !== "0 B") headers.push(["payload", path.payload]);
  return headers;
}

/** Splits `10.0.0.1:80` and `[fd00::1]:80`; the port is optional. */
function addressAndPort(text) {
  const [, bracketed, plain, port] = text.match(/^(?:\[(.+)\]|([^:]+)):(\d+)$/) ?? [];
  return port === undefined ? [text] : [bracketed ?? plain, port];
}

function facts(hop) {
  const evidence = hop.inferred
    ? "inferred from the hops around it, not observed"
    : hop.seen ? `seen at ${hop.seen}` : "seen";
  const where = hop.device === undefined ? hop.node : `${hop.device} on ${hop.node}`;
  const time = hop.at === undefined ? [] : [["time", `${hop.at} after the first hop`]];
  return [["where", where], ["evidence", evidence], ...time, ...hop.facts];
}

/** Headers as nested boxes, outermost first. */
function headerBoxes(headers) {
  const box = [...headers].reverse().reduce((inside, [name, text]) =>
    make("div", { class: "header" }, make("b", {}, name), " ", text, inside), null);
  return make("div", { class: "headers" }, make("h3", {}, "headers, decoded"), box);
}

function factList(facts) {
  return make("dl", {}, ...facts.flatMap(([name, text]) =>
    [make("dt", {}, name), make("dd", {}, ...code(text))]));
}

/** The observations of a hop in the network stack. */
function eventList(events) {
  if (events.length === 0) return "";
  return make("table", { class: "events" },
    make("caption", {}, "in the network stack, time relative to the hop"),
    ...events.map(({ since, point, detail }) => make("tr", {},
      make("td", { class: "number" }, since), make("td", {}, point), make("td", {}, detail ?? ""))));
}
