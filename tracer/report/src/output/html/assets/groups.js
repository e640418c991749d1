// Flows and causes of the paths on this page: choosing one shows its paths alone. Made from the paths and not from the trace's end,
// so that the page of a killed tracer has them, too.

const GROUPS = 200;
const FAILED = new Set(["dropped", "vanished", "rejected"]);

function isFailed(path) {
  return FAILED.has(path.verdict);
}

/** The paths of each flow, those with failures first, then by number. */
function flowGroups(data) {
  const groups = [...data.flows].map(([id, paths]) => {
    const first = paths.find((path) => path.direction === "request") ?? paths[0];
    const ends = first.direction === "request" ? [first.from, first.to] : [first.to, first.from];
    return { kind: "flow", id, paths, ends, first, lost: paths.filter(isFailed).length };
  });
  return groups.sort((left, right) => (right.lost > 0) - (left.lost > 0) || left.id - right.id);
}

/** The paths of each cause, the most frequent first. */
function causeGroups(data) {
  const groups = new Map();
  for (const path of data.paths.filter(isFailed)) {
    const why = reasonOf(path);
    const last = path.hops[path.hops.length - 1];
    // Times, addresses and ports make no other cause.
    const key = [path.verdict, last?.node, last?.device, why, toDo(path).join(" ")].join("|")
      .split(/[ `]/).filter((word) => !/\d/.test(word) || word.includes("|")).join(" ");
    if (!groups.has(key)) groups.set(key, { kind: "cause", id: groups.size + 1, paths: [], first: path, why, last });
    groups.get(key).paths.push(path);
  }
  return [...groups.values()].sort((left, right) => right.paths.length - left.paths.length);
}

/** Why a path failed: the kernel's reason with its rule, or what came instead of an answer. */
function reasonOf(path) {
  const last = path.hops[path.hops.length - 1];
  const dropped = last?.facts.find(([name]) => name === "dropped");
  if (path.verdict === "dropped" && dropped) return dropped[1];
  const [ending] = plain(unmarked(path.ending));
  return ending.includes(": ") ? ending.slice(ending.indexOf(": ") + 2) : ending;
}

/** The tabs, and the list of flows or causes. `choose` gets a group, or null for all paths. */
class Groups {
  constructor(data, choose) {
    this.choose = choose;
    this.lists = { flow: flowGroups(data), cause: causeGroups(data) };
    this.words = [];
    this.shown = "paths";
    this.element = document.getElementById("groups");
    this.tabs = document.getElementById("tabs");
    this.chosen = document.getElementById("chosen");
    this.render();
  }

  filter(text) {
    this.words = text.toLowerCase().split(/\s+/).filter((word) => word);
    this.renderList();
  }

  show(shown) {
    this.shown = shown;
    this.render();
  }

  /** The group of this kind and number. */
  find(kind, id) {
    return this.lists[kind].find((group) => `${group.id}` === id);
  }

  /** Shows the paths of a group, or all. */
  pick(group) {
    this.chosen.replaceChildren(...(group === null ? [] : [make("button", { type: "button", class: "chip",
      title: "show all paths again", onclick: () => this.pick(null) },
      `${group.kind} ${group.id}: ${thousands(group.paths.length)} ${group.paths.length === 1 ? "path" : "paths"} `, make("span", { "aria-hidden": "true" }, "✕"))]));
    this.show("paths");
    this.choose(group);
  }

  render() {
    const names = [["paths", "Paths"], ["flow", `Flows (${thousands(this.lists.flow.length)})`],
      ["cause", `Causes of failures (${thousands(this.lists.cause.length)})`]];
    this.tabs.replaceChildren(...names.map(([key, name]) =>
      make("button", { type: "button", role: "tab", "aria-selected": `${this.shown === key}`, "data-tab": key,
        onclick: () => this.show(key) }, name)));
    document.getElementById("table").hidden = this.shown !== "paths";
    this.element.hidden = this.shown === "paths";
    this.renderList();
  }

  renderList() {
    if (this.shown === "paths") return;
    const fits = (group) => this.words.every((word) => this.haystack(group).includes(word));
    const all = this.lists[this.shown].filter(fits);
    const rows = all.slice(0, GROUPS).map((group) => this.shown === "flow" ? this.flow(group) : this.cause(group));
    if (rows.length === 0) rows.push(make("p", { class: "nothing" }, this.shown === "cause" ? "no path on this page failed" : "no matching flow"));
    if (all.length > GROUPS) rows.push(make("p", { class: "nothing" }, `and ${thousands(all.length - GROUPS)} more; the filter finds them`));
    this.element.replaceChildren(...rows);
  }

  haystack(group) {
    if (group.haystack === undefined) {
      const { kind, id, first, why } = group;
      group.haystack = [`${kind} ${id}`, first.packet, end(first.from), end(first.to), why ?? "", ...toDo(first)].join("\n").toLowerCase();
    }
    return group.haystack;
  }

  flow(group) {
    const { id, paths, ends, first, lost } = group;
    const ways = ["request", "reply"].map((way) => paths.filter((path) => path.direction === way));
    const bytes = (way) => way.reduce((sum, path) => sum + path.bytes, 0);
    const again = resent(paths).size;
    const marks = [lost > 0 ? make("span", { class: "bad" }, `${thousands(lost)} failed`) : null,
      again > 0 ? make("span", { class: "doubt" }, `${thousands(again)} resent`) : null];
    return make("button", { type: "button", class: `group ${lost > 0 ? "bad-group" : ""}`, "data-flow": id, onclick: () => this.pick(group) },
      make("span", { class: "count" }, `${lost > 0 ? "✗" : "✓"} flow ${id}`),
      make("span", { class: "about" }, make("b", {}, first.proto), " ", ...wholeEnd(ends[0]), " → ", ...wholeEnd(ends[1])),
      make("span", { class: "numbers" }, `${thousands(ways[0].length)} → ${thousands(ways[1].length)} ← packets, ${thousands(bytes(ways[0]))} / ${thousands(bytes(ways[1]))} B `,
        ...marks.filter((mark) => mark).flatMap((mark) => [" ", mark])));
  }

  cause(group) {
    const { id, paths, first, why, last } = group;
    const { mark, word } = VERDICTS[first.verdict];
    const flows = new Set(paths.map((path) => path.flow)).size;
    const where = last === undefined ? "" : ` on ${last.node}${last.device === undefined ? "" : ` at ${last.device}`}`;
    const times = paths.map((path) => path.started).sort();
    const when = times.length === 1 ? times[0].slice(11, -4) : `${times[0].slice(11, -4)} to ${times[times.length - 1].slice(11, -4)}`;
    return make("button", { type: "button", class: "group bad-group", "data-cause": id, onclick: () => this.pick(group) },
      make("span", { class: "count bad" }, `${mark} ${thousands(paths.length)} ×`),
      make("span", { class: "about" }, make("b", { class: "bad" }, word), where, ": ", why,
        make("span", { class: "to-do" }, ...toDo(first).map((text) => advice(text)))),
      make("span", { class: "numbers" }, `${thousands(flows)} ${flows === 1 ? "flow" : "flows"}, ${when}; first #${first.id} `, ...wholeEnd(first.from), " → ", ...wholeEnd(first.to)));
  }
}

/** An end whose address stays whole where it can, and never loses its port. */
function wholeEnd(end) {
  return [end.name === undefined ? null : make("span", { class: "name" }, `${end.name} `), make("span", { class: "address" }, end.address)]
    .filter((part) => part);
}

/** An end in a cell that may be too narrow: the name gives way, then the host; the port stays. */
function cellEnd(end) {
  const port = end.address.match(/:\d+$/)?.[0] ?? "";
  const hasPort = port !== "" && (end.address.startsWith("[") || end.address.split(":").length === 2);
  const host = hasPort ? end.address.slice(0, -port.length) : end.address;
  return make("span", { class: "end-cell" },
    end.name === undefined ? null : make("span", { class: "name" }, end.name),
    make("span", { class: "host" }, host), hasPort ? make("span", { class: "port" }, port) : null);
}

/** Packets with bytes that their flow had sent before: their sequence number is known from their label. */
function resent(paths) {
  const seen = new Set();
  const again = new Set();
  for (const path of paths) {
    const seq = path.proto !== "tcp" ? null : path.label === "SYN" || path.label === "SYN-ACK" ? path.label
      : path.label.match(/ B seq (\d+)$/)?.[1];
    if (seq === null || seq === undefined) continue;
    const key = `${path.direction} ${seq}`;
    if (seen.has(key)) again.add(path);
    seen.add(key);
  }
  return again;
}
