// Connects table, filter and picture. The URL names the selected path and hop, so that it can be shared
// (page.html#path=7&hop=3).

let place = new URLSearchParams();

function notePlace() {
  // Some browsers do not let a page from a file change its history.
  try {
    history.replaceState(null, "", `#${place}`);
  } catch {
    return;
  }
}

function noteHop(hop) {
  if (hop === null) place.delete("hop");
  else place.set("hop", hop);
  notePlace();
}

function showAccounting(data) {
  const element = document.getElementById("accounting");
  const { summary, damaged, full, paths } = data;
  if (summary === null) {
    element.className = "incomplete";
    const rest = full ? " There were too many for one page; some are not shown." : "";
    const cut = damaged > 0 ? " The path being written at the end is lost." : "";
    element.replaceChildren(make("strong", {}, "✗ INCOMPLETE"), make("div", {},
      `The end of this page is missing: the tracer was killed, or is still running. It has ${full ? "more than " : ""}${thousands(paths.length)} paths; later paths and losses are unknown.${rest}${cut}`));
    return;
  }
  element.className = summary.complete ? "complete" : "incomplete";
  element.replaceChildren(
    make("strong", {}, summary.complete ? "✓ complete" : "✗ INCOMPLETE"),
    ...summary.lines.map((line) => make("div", {}, ...spans(line))));
}

/** The cluster changes during the trace. */
function showChanges({ changes }) {
  const element = document.getElementById("changes");
  element.hidden = changes.length === 0;
  element.replaceChildren(...changes.map(({ at, words }) =>
    make("li", {}, make("time", { datetime: at, title: at }, at.slice(11, 23)), " ", ...spans(words))));
}

function showVerdicts(data, table) {
  const counts = {};
  for (const path of data.paths) counts[path.verdict] = (counts[path.verdict] ?? 0) + 1;
  const buttons = Object.entries(VERDICTS)
    .filter(([verdict]) => counts[verdict])
    .sort((left, right) => left[1].rank - right[1].rank)
    .map(([verdict, { mark, word }]) => make("button", { type: "button", class: `badge ${verdict}`, "aria-pressed": "true",
      onclick: ({ currentTarget: button }) => {
        const shown = button.getAttribute("aria-pressed") !== "true";
        button.setAttribute("aria-pressed", shown);
        table.toggle(verdict, shown);
      } }, `${mark} ${thousands(counts[verdict])} ${word}`));
  document.getElementById("verdicts").replaceChildren(...buttons);
}

/** The previous and the next packet of the same flow. */
function neighbours(data, path) {
  const flow = data.flows.get(path.flow);
  const at = flow.indexOf(path);
  return [flow[at - 1], flow[at + 1]];
}

function start() {
  const data = readData();
  document.getElementById("title").textContent = data.trace.title;
  document.getElementById("version").textContent = data.trace.version;
  document.title = `podtrace ${data.trace.title}`;
  showAccounting(data);
  showChanges(data);

  const picture = document.getElementById("path");
  let hop = null;
  const table = new Table(data.paths, (path) => {
    place.set("path", path.id);
    if (hop === null) place.delete("hop");
    notePlace();
    showPath(picture, path, hop, neighbours(data, path), (neighbour) => table.pick(neighbour), data);
  });
  const groups = new Groups(data, (group) => {
    table.limit(group === null ? null : group.paths);
    place.delete("flow");
    place.delete("cause");
    if (group !== null) {
      place.set(group.kind, group.id);
      table.pick(group.first);
    }
    notePlace();
  });
  showVerdicts(data, table);

  const filter = document.getElementById("filter");
  filter.addEventListener("input", () => {
    table.filter(filter.value);
    groups.filter(filter.value);
    if (filter.value) place.set("filter", filter.value);
    else place.delete("filter");
    notePlace();
  });
  addEventListener("keydown", (event) => {
    if (event.key === "/" && document.activeElement !== filter) {
      event.preventDefault();
      filter.focus();
    } else if ((event.key === "Enter" || event.key === "Escape") && document.activeElement === filter) {
      document.getElementById("table").focus();
    }
  });

  const go = () => {
    place = new URLSearchParams(location.hash.slice(1));
    filter.value = place.get("filter") ?? "";
    table.filter(filter.value);
    groups.filter(filter.value);
    const group = ["flow", "cause"].map((kind) => place.has(kind) ? groups.find(kind, place.get(kind)) : undefined).find((group) => group);
    const wanted = [place.get("path"), place.get("hop")];
    if (group) groups.pick(group);
    for (const [at, key] of ["path", "hop"].entries()) if (wanted[at] !== null) place.set(key, wanted[at]);
    const asked = data.paths.find((path) => `${path.id}` === place.get("path"));
    // Users look for what went wrong.
    const worst = table.shown.reduce((worst, path) =>
      worst === null || VERDICTS[path.verdict].rank < VERDICTS[worst.verdict].rank ? path : worst, null);
    hop = place.has("hop") ? Number(place.get("hop")) : null;
    if (asked ?? worst) table.pick(asked ?? worst);
    else picture.replaceChildren(make("p", { class: "nothing" }, "no paths"));
    hop = null;
  };
  addEventListener("hashchange", go);
  go();
}

document.addEventListener("DOMContentLoaded", start);
