// Below the selected path: its flow's packets over time, the times of its hops among all that took this way, and the devices of the
// page with its line drawn in.

const TICKS = 1500;
const BINS = 24;

/** Nanoseconds since 1970 as a number: exact to some hundred nanoseconds, which is finer than a pixel. */
function startedNs(path) {
  return Date.parse(`${path.started.slice(0, 19)}Z`) * 1e6 + Number(path.started.slice(20, 29));
}

/** A time in three digits. */
function timeText(ns) {
  const [value, unit] = Math.abs(ns) < 999500 ? [ns / 1e3, "µs"] : Math.abs(ns) < 9.995e8 ? [ns / 1e6, "ms"] : [ns / 1e9, "s"];
  return `${Math.abs(value) >= 99.95 ? value.toFixed(0) : Math.abs(value) >= 9.995 ? value.toFixed(1) : value.toFixed(2)} ${unit}`;
}

/** The packets of a flow over time: requests above the line, replies below. */
function timeLine(path, paths, pick) {
  if (paths.length < 2) return null;
  const [width, height, middle, left] = [1000, 96, 48, 70];
  const times = paths.map(startedNs);
  const start = times.reduce((least, at) => Math.min(least, at));
  const length = Math.max(1, times.reduce((most, at) => Math.max(most, at)) - start);
  const again = resent(paths);
  const shown = paths.length <= TICKS ? paths
    : paths.filter((other, at) => other === path || isFailed(other) || again.has(other) || at % Math.ceil(paths.length / TICKS) === 0);
  const ticks = shown.map((other) => {
    const at = left + ((startedNs(other) - start) / length) * (width - left - 30);
    const up = other.direction === "request";
    const kind = isFailed(other) ? "failed" : again.has(other) ? "resent" : "arrived";
    const note = `#${other.id} ${other.packet}, ${timeText(startedNs(other) - start)} after the first: ${verdictOf(other).word}${again.has(other) ? ", sent again" : ""}`;
    const end = up ? middle - 30 : middle + 30;
    const mark = kind === "failed" ? [draw("path", { class: "cross", d: `M${at - 5} ${end - 5}l10 10m0 -10l-10 10` })]
      : kind === "resent" ? [draw("circle", { class: "again", cx: at, cy: end, r: 4 })] : [];
    const group = draw("g", { class: `tick ${kind} ${other === path ? "chosen" : ""}`, "data-path": other.id },
      draw("title", {}, note), draw("path", { class: "catch", d: `M${at} ${middle}V${end}` }), draw("path", { d: `M${at} ${middle}V${end}` }), ...mark);
    group.addEventListener("click", () => pick(other));
    return group;
  });
  const text = (x, y, content, anchor = "start") => draw("text", { x, y, "text-anchor": anchor }, content);
  const left_out = paths.length - shown.length;
  return section("flow", `Packets of flow ${path.flow} over time`,
    draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${paths.length} packets of flow ${path.flow} within ${timeText(length)}` },
      draw("path", { class: "axis", d: `M${left} ${middle}H${width - 20}` }),
      text(0, middle - 18, "request →"), text(0, middle + 28, "reply ←"),
      text(left, height - 1, "0"), text(width - 20, height - 1, timeText(length), "end"), ...ticks),
    legendOf([["arrived", "arrived"], ["failed", "✗ did not arrive"], ["resent", "● sent again"], ["chosen", "selected"]],
      left_out > 0 ? `${thousands(left_out)} of ${thousands(paths.length)} packets are not drawn` : `${thousands(paths.length)} packets, by the clocks of the nodes where they began`));
}

function section(kind, title, ...content) {
  return make("section", { class: `more ${kind}` }, make("h3", {}, title), ...content);
}

function legendOf(entries, note) {
  return make("p", { class: "legend" }, ...entries.map(([kind, name]) => make("span", { class: `word ${kind}` }, name)), make("span", {}, note));
}

/** What makes ways equal. */
function wayOf(path) {
  path.way ??= path.hops.map((hop) => `${hop.node}|${hop.device}|${hop.action}`).join(" ");
  return path.way;
}

/** The distribution of the times of each hop, over all paths of the page that took the same way. */
function distributions(path, paths) {
  const same = paths.filter((other) => wayOf(other) === wayOf(path));
  if (same.length < 3) return null;
  const columns = path.hops.map((hop, at) => ({ hop, values: same.map((other) => other.hops[at].step_ns).filter((ns) => ns !== undefined).map((ns) => Math.max(ns, 0)) }))
    .filter(({ values }) => values.length > 0);
  columns.push({ hop: null, values: same.map((other) => Math.max(other.took_ns, 0)) });
  const all = columns.flatMap(({ values }) => values).filter((ns) => ns > 0);
  if (all.length === 0) return null;
  const least = Math.log(all.reduce((least, ns) => Math.min(least, ns)));
  const most = Math.max(Math.log(all.reduce((most, ns) => Math.max(most, ns))), least + 0.01);
  const bin = (ns) => Math.min(BINS - 1, Math.max(0, Math.floor(((Math.log(Math.max(ns, 1)) - least) / (most - least)) * BINS)));
  const rows = columns.map(({ hop, values }) => {
    const counts = new Array(BINS).fill(0);
    for (const ns of values) counts[bin(ns)] += 1;
    const highest = Math.max(...counts);
    const bars = counts.map((count, at) => draw("rect", { x: at * 10, y: 28 - (count / highest) * 28, width: 9, height: (count / highest) * 28 }, draw("title", {}, `${thousands(count)} packets from ${timeText(Math.exp(least + (at / BINS) * (most - least)))}`)));
    const sorted = [...values].sort((left, right) => left - right);
    const share = (of) => timeText(sorted[Math.min(sorted.length - 1, Math.ceil((sorted.length * of) / 100) - 1)]);
    const own = hop === null ? null : path.hops.indexOf(hop) > 0 && hop.step_ns !== undefined ? timeText(hop.step_ns) : null;
    const chosen = hop === null ? path.took_ns : hop.step_ns;
    const mark = chosen === undefined ? [] : [draw("path", { class: "chosen", d: `M${bin(chosen) * 10 + 4.5} 0V30` })];
    const error = hop?.error_ns ? ` ±${timeText(hop.error_ns)}` : "";
    return make("tr", {}, make("th", { scope: "row" }, hop === null ? make("b", {}, "whole way") : `${hop.node} ${hop.device ?? ""}`, make("span", { class: "dim" }, hop === null ? "" : ` ${hop.action}${error}`)),
      make("td", {}, draw("svg", { viewBox: `0 0 ${BINS * 10} 30`, class: "histogram", "aria-hidden": "true" }, ...bars, ...mark)),
      ...[50, 90, 99, 100].map((of) => make("td", { class: "number" }, share(of))), make("td", { class: "number dim" }, own ?? (hop === null ? path.took : "")));
  });
  return section("latency", `Times of this way's hops, over ${thousands(same.length)} packets on this page`,
    make("div", { class: "scroll" }, make("table", {}, make("thead", {}, make("tr", {}, ...["since the hop before", `from ${timeText(Math.exp(least))} to ${timeText(Math.exp(most))}`, "p50", "p90", "p99", "max", "this one"].map((name) => make("th", { scope: "col" }, name)))),
      make("tbody", {}, ...rows))));
}

/** The devices that packets of this page passed, with the line of the selected path. */
function deviceMap(path, paths) {
  const nodes = new Map();
  const edges = new Map();
  const podOf = (hop) => hop.facts.find(([name]) => name === "pod")?.[1].split("/").pop();
  // A pod's own device may be called as one of its node.
  const deviceOf = (hop) => hop.dropped && podOf(hop) ? `in ${podOf(hop)}` : hop.device ?? "–";
  const key = (hop) => `${hop.node}|${deviceOf(hop)}`;
  const stations = (other) => other.hops.filter((hop, at) => at === 0 || key(hop) !== key(other.hops[at - 1]));
  const visit = (other) => {
    stations(other).forEach((hop, at, all) => {
      if (!nodes.has(hop.node)) nodes.set(hop.node, new Map());
      const devices = nodes.get(hop.node);
      if (!devices.has(deviceOf(hop))) devices.set(deviceOf(hop), { sum: 0, count: 0, pods: new Set() });
      const device = devices.get(deviceOf(hop));
      // Near the pod first, near the wire last: how far a packet is from its node's edge.
      const inner = all.filter((one) => one.node === hop.node);
      const place = inner.indexOf(hop);
      const outbound = all[0].node === hop.node;
      device.sum += inner.length < 2 ? 0 : outbound ? place / (inner.length - 1) : 1 - place / (inner.length - 1);
      device.count += 1;
      if (podOf(hop) && !hop.dropped) device.pods.add(podOf(hop));
      if (at > 0) {
        const edge = [key(all[at - 1]), key(hop)].sort().join(" – ");
        edges.set(edge, (edges.get(edge) ?? 0) + 1);
      }
    });
  };
  paths.slice(0, 2000).forEach(visit);
  visit(path);
  const total = [...nodes.values()].reduce((sum, devices) => sum + devices.size, 0);
  // More is a thicket: only what the path passes is drawn then.
  if (total > 60) return null;
  const [box, high, gap, wide] = [150, 26, 14, 250];
  const places = new Map();
  const drawn = [];
  let x = 10;
  let tallest = 0;
  for (const [name, devices] of nodes) {
    const order = [...devices].sort((left, right) => left[1].sum / left[1].count - right[1].sum / right[1].count);
    const levels = [];
    for (const entry of order) {
      const level = Math.round((entry[1].sum / entry[1].count) * 3);
      (levels[level] ??= []).push(entry);
    }
    let y = 44;
    for (const level of levels.filter((level) => level)) {
      level.forEach(([device, { pods }], at) => {
        const left = x + 12 + at * (box + gap);
        places.set(`${name}|${device}`, [left, y]);
        const pod = [...pods].join(", ");
        drawn.push(draw("g", { class: "device" }, draw("rect", { x: left, y, width: box, height: high, rx: 4 }),
          draw("text", { x: left + 6, y: y + 17 }, clipped(device, 20)), draw("title", {}, `${name} ${device}${pod ? ` to ${pod}` : ""}`),
          ...(pod ? [draw("text", { class: "of-pod", x: left + 6, y: y - 3 }, clipped(pod, 22))] : [])));
      });
      y += high + 30;
    }
    const columns = Math.max(...levels.filter((level) => level).map((level) => level.length));
    const width = Math.max(wide, columns * (box + gap) + 12);
    tallest = Math.max(tallest, y);
    drawn.unshift(draw("rect", { class: "node", x, y: 4, width, height: y - 14, rx: 8 }), draw("text", { class: "node-name", x: x + 12, y: 22 }, name));
    x += width + 40;
  }
  const centre = (place) => places.has(place) ? [places.get(place)[0] + box / 2, places.get(place)[1] + high / 2] : null;
  const line = (from, to, kind) => {
    const [start, end] = [centre(from), centre(to)];
    return start && end ? [draw("path", { class: kind, d: `M${start[0]} ${start[1]}L${end[0]} ${end[1]}` })] : [];
  };
  const others = [...edges.keys()].flatMap((edge) => line(...edge.split(" – "), "edge"));
  const own = stations(path).flatMap((hop, at, all) => at === 0 ? [] : line(key(all[at - 1]), key(hop), `own ${path.verdict}`));
  const last = path.hops[path.hops.length - 1];
  const stop = last && isFailed(path) && centre(key(last)) ? [draw("text", { class: "stop-mark", x: places.get(key(last))[0] + box - 16, y: places.get(key(last))[1] + 18 }, "✗")] : [];
  const firstNodes = drawn.filter((part) => part.getAttribute("class") === "node");
  const rest = drawn.filter((part) => part.getAttribute("class") !== "node");
  const svg = draw("svg", { viewBox: `0 0 ${x} ${tallest}`, width: x, role: "img", "aria-label": "devices that the packets of this page passed, with the selected path" },
    ...firstNodes, ...others, ...own, ...rest, ...stop);
  return section("map", "Devices that packets on this page passed; this path's line", make("div", { class: "scroll" }, svg));
}

/** A name in so many characters; its title has it whole. */
function clipped(text, length) {
  return text.length > length ? `${text.slice(0, length - 1)}…` : text;
}
