// The table of paths: sorts, filters, and creates only the visible rows.

const ROW = 28;
const SPARE = 8;

const COLUMNS = [
  { key: "id", title: "#", value: (path) => path.id, cell: (path) => `${path.id}`, number: true },
  { key: "verdict", title: "verdict", value: (path) => VERDICTS[path.verdict].rank, cell: verdictCell },
  { key: "flow", title: "flow", value: (path) => path.flow, cell: flowCell },
  { key: "packet", title: "packet", value: (path) => path.packet, cell: (path) => path.packet },
  { key: "from", title: "from", value: (path) => end(path.from), cell: (path) => cellEnd(path.from), hint: (path) => end(path.from) },
  { key: "to", title: "to", value: (path) => end(path.to), cell: (path) => cellEnd(path.to), hint: (path) => end(path.to) },
  { key: "size", title: "size", value: (path) => path.bytes, cell: (path) => path.size, number: true },
  { key: "hops", title: "hops", value: (path) => path.hops.length, cell: (path) => `${path.hops.length}`, number: true },
  { key: "took", title: "took", value: (path) => path.took_ns, cell: (path) => path.took, number: true },
  { key: "started", title: "started (UTC)", value: (path) => path.started, cell: (path) => path.started.slice(11, -4) },
];

function verdictCell(path) {
  const { mark, word } = verdictOf(path);
  return make("span", { class: `badge ${path.verdict}` }, `${mark} ${word}`);
}

function flowCell(path) {
  return `${path.flow} ${path.direction === "request" ? "→" : "←"}`;
}

class Table {
  constructor(paths, picked) {
    this.paths = paths;
    this.picked = picked;
    this.chosen = null;
    this.hidden = new Set();
    this.words = [];
    this.only = null;
    this.order = { key: "id", down: false };
    this.element = document.getElementById("table");
    this.head = document.getElementById("head");
    this.body = document.getElementById("body");
    this.count = document.getElementById("count");
    this.element.addEventListener("scroll", () => this.render());
    this.element.addEventListener("keydown", (event) => this.key(event));
    this.body.addEventListener("click", (event) => {
      const row = event.target.closest("[data-at]");
      if (row) this.pick(this.shown[Number(row.dataset.at)]);
    });
    addEventListener("resize", () => this.render());
    this.renderHead();
    this.update();
  }

  /** Shows only paths that contain all of these words. */
  filter(text) {
    this.words = text.toLowerCase().split(/\s+/).filter((word) => word);
    this.update();
  }

  /** Shows only these paths, or all of them. */
  limit(paths) {
    this.only = paths === null ? null : new Set(paths);
    this.update();
  }

  /** Shows or hides the paths of a verdict. */
  toggle(verdict, shown) {
    if (shown) this.hidden.delete(verdict);
    else this.hidden.add(verdict);
    this.update();
  }

  sort(key, down) {
    this.order = { key, down };
    this.renderHead();
    this.update();
  }

  update() {
    const { value } = COLUMNS.find((column) => column.key === this.order.key);
    const sign = this.order.down ? -1 : 1;
    const fits = (path) =>
      !this.hidden.has(path.verdict) && (this.only === null || this.only.has(path)) && this.words.every((word) => haystack(path).includes(word));
    const compare = (left, right) => (left < right ? -1 : left > right ? 1 : 0);
    this.shown = this.paths.filter(fits).sort((left, right) =>
      sign * compare(value(left), value(right)) || left.id - right.id);
    const all = this.shown.length === this.paths.length;
    this.count.textContent = all
      ? `${thousands(this.paths.length)} ${this.paths.length === 1 ? "path" : "paths"}`
      : `${thousands(this.shown.length)} of ${thousands(this.paths.length)} paths`;
    this.element.setAttribute("aria-rowcount", this.shown.length + 1);
    this.body.style.height = `${Math.max(this.shown.length, 1) * ROW}px`;
    this.render();
  }

  renderHead() {
    this.head.replaceChildren(...COLUMNS.map(({ key, title, number }) => {
      const sorted = this.order.key === key;
      const arrow = sorted ? (this.order.down ? " ▾" : " ▴") : "";
      const button = make("button", { type: "button", onclick: () => this.sort(key, sorted && !this.order.down) },
        title + arrow);
      const direction = this.order.down ? "descending" : "ascending";
      return make("div", { role: "columnheader", class: number ? "number" : null, "data-column": key,
        "aria-sort": sorted ? direction : "none" }, button);
    }));
  }

  /** Creates the visible rows. */
  render() {
    const first = Math.max(0, Math.floor(this.element.scrollTop / ROW) - SPARE);
    const last = Math.min(this.shown.length, first + Math.ceil(this.element.clientHeight / ROW) + 2 * SPARE);
    const rows = [];
    for (let at = first; at < last; at += 1) rows.push(this.row(at));
    if (this.shown.length === 0) rows.push(make("div", { class: "nothing" }, "no matching path"));
    this.body.replaceChildren(...rows);
    const chosen = this.chosen && document.getElementById(`row-${this.chosen.id}`);
    if (chosen) this.element.setAttribute("aria-activedescendant", chosen.id);
    else this.element.removeAttribute("aria-activedescendant");
  }

  row(at) {
    const path = this.shown[at];
    const cells = COLUMNS.map(({ key, cell, number, hint }) => {
      const content = cell(path);
      const title = hint ? hint(path) : key === "started" ? path.started : typeof content === "string" ? content : null;
      return make("div", { role: "gridcell", class: number ? "number" : null, "data-column": key, title }, content);
    });
    const row = make("div", { role: "row", id: `row-${path.id}`, "data-at": at, "aria-rowindex": at + 2,
      "aria-selected": path === this.chosen, class: `row ${path.verdict}` }, ...cells);
    row.style.top = `${at * ROW}px`;
    return row;
  }

  pick(path) {
    this.chosen = path;
    this.reveal(this.shown.indexOf(path));
    this.render();
    this.picked(path);
  }

  /** Scrolls a row into view. */
  reveal(at) {
    if (at < 0) return;
    const room = this.element.clientHeight - this.head.offsetHeight - ROW;
    const top = at * ROW;
    if (top < this.element.scrollTop) this.element.scrollTop = top;
    else if (top > this.element.scrollTop + room) this.element.scrollTop = top - room;
  }

  key(event) {
    if (event.target !== this.element || event.ctrlKey || event.altKey || event.metaKey) return;
    const page = Math.max(1, Math.floor(this.element.clientHeight / ROW) - 2);
    const last = this.shown.length - 1;
    const at = this.shown.indexOf(this.chosen);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: last }[event.key];
    if (to === undefined || last < 0) return;
    event.preventDefault();
    this.pick(this.shown[Math.min(Math.max(to, 0), last)]);
  }
}
