// Reads the page's data: one element each for the trace, each path, each cluster change, and the summary.

const VERDICTS = {
  delivered: { mark: "✓", word: "delivered", rank: 4 },
  dropped: { mark: "✗", word: "DROPPED", rank: 0 },
  vanished: { mark: "?", word: "VANISHED", rank: 1 },
  rejected: { mark: "✗", word: "REFUSED", rank: 2 },
  open: { mark: "…", word: "open", rank: 3 },
};

/** The mark and word of a path. An ICMP error that was delivered reports that another packet was not. */
function verdictOf(path) {
  const [first] = path.ending;
  const isError = (typeof first === "string" ? first : first[1]).startsWith("! ");
  return isError ? { mark: "!", word: "ICMP error" } : VERDICTS[path.verdict];
}

/** Reads all data elements, and removes them from the document. */
function readData() {
  const data = { trace: { title: "", version: "" }, paths: [], changes: [], flows: new Map(), full: false, summary: null, damaged: 0 };
  for (const element of document.querySelectorAll('script[type="application/json"]')) {
    let value;
    try {
      value = JSON.parse(element.textContent);
    } catch {
      // The tracer was killed while writing this element.
      data.damaged += 1;
      continue;
    }
    if (element.className === "path") {
      data.paths.push(filledIn(value));
      if (!data.flows.has(value.flow)) data.flows.set(value.flow, []);
      data.flows.get(value.flow).push(value);
    } else if (element.className === "change") data.changes.push(value);
    else data[element.className] = value;
    element.remove();
  }
  return data;
}

/** Fills in what the data omits because it is unchanged. */
function filledIn(path) {
  path.packet = `${path.proto} ${path.label}`;
  let addresses = ["", ""];
  for (const hop of path.hops) {
    addresses = hop.addresses ?? addresses;
    [hop.src, hop.dst] = addresses;
    hop.tunnel ??= [false, false];
    hop.facts ??= [];
    hop.events ??= [];
  }
  return path;
}

/** The text that the filter searches, created on first use. */
function haystack(path) {
  if (path.haystack === undefined) {
    const hops = path.hops.flatMap((hop) => [hop.node, hop.device, hop.action, hop.src, hop.dst]);
    const words = [`#${path.id}`, `flow ${path.flow}`, path.direction, path.verdict, path.packet, end(path.from),
      end(path.to), ...plain(path.ending), ...hops.filter((word) => word)];
    path.haystack = [...new Set(words)].join("\n").toLowerCase();
  }
  return path.haystack;
}

function plain(pieces) {
  return [pieces.map((piece) => (typeof piece === "string" ? piece : piece[1])).join("")];
}

/** An endpoint of a path as text. */
function end(end) {
  return end.name === undefined ? end.address : `${end.name} ${end.address}`;
}
