//! The page of `--html` in a headless Chromium: recordings, hostile names, ten thousand paths, keys. Neither root nor
//! packets are needed. `PODTRACE_KEEP_PAGES=DIRECTORY` keeps the pages, to look at them.

use std::fs;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path as FilePath, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use podtrace_path::{Change, ChangeKind, Path, Summary, Verdict};
use podtrace_report::output::{Html, Report as _};
use podtrace_tests::browser::{self, Dom};
use podtrace_tests::command::{SHORT, run, succeed};
use podtrace_tests::{binary, suite};
use serde_json::Value;
use tempfile::TempDir;

/// Recordings whose pages are checked path by path.
const RECORDINGS: [&str; 12] = [
    "cross-node-ping",
    "dead-pod",
    "error-through-nat",
    "fragments",
    "lost-fdb-entry",
    "lost-wire",
    "nft-forward-drop",
    "nodeport-other-node",
    "same-node-ping",
    "service-other-node",
    "tcp-connection",
    "udp-closed-port",
];

/// Number of paths with which the page has to stay usable.
const MANY: u64 = 10_000;

fn main() -> ExitCode {
    let mut trials: Vec<Trial> = RECORDINGS
        .into_iter()
        .map(|name| trial(&format!("page-of-{name}"), move || recording(name)))
        .collect();
    trials.push(trial("what-is-incomplete-says-so", incomplete));
    trials.push(trial("what-a-recording-lacks-is-on-its-page", lacking));
    trials.push(trial("a-killed-tracers-page-can-be-read", killed));
    trials.push(trial("hostile-names-stay-text", hostile));
    trials.push(trial("ten-thousand-paths-stay-usable", many));
    trials.push(trial("sorting-and-filtering", sorting_and_filtering));
    trials.push(trial("the-keyboard-is-enough", keyboard));
    trials.push(trial("what-the-stack-saw-is-among-the-details", stack));
    trials.push(trial("packets-of-a-flow-lead-to-each-other", flow));
    trials.push(trial("a-flow-or-a-cause-leads-to-its-paths", chosen));
    trials.push(trial("changes-of-the-cluster-are-shown", changed));
    trials.push(trial("no-other-script-is-allowed", no_other_script));
    trials.push(suite::plain("a-page-outlives-the-reader-of-the-text", outlives_the_reader));
    trials.push(suite::plain("a-page-that-cannot-be-written-is-an-error", cannot_be_written));
    suite::run(trials)
}

fn trial(name: &str, test: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    suite::unless(browser::missing(), name, test)
}

fn recorded(name: &str) -> PathBuf {
    FilePath::new(env!("CARGO_MANIFEST_DIR")).join("recordings").join(name)
}

/// A directory for pages.
struct Pages(TempDir);

impl Pages {
    fn new() -> Result<Self> {
        Ok(Self(tempfile::tempdir().context("making a directory for pages")?))
    }

    fn page(&self, name: &str) -> PathBuf {
        self.0.path().join(name).with_extension("html")
    }

    /// Writes a page of these paths.
    fn write(&self, name: &str, paths: impl Iterator<Item = Path>, summary: &Summary) -> Result<PathBuf> {
        let file = self.page(name);
        let mut page = Html::begin(BufWriter::new(File::create(&file)?), name)?;
        for path in paths {
            page.path(&path)?;
        }
        page.summary(summary)?;
        keep(&file)?;
        Ok(file)
    }

    /// Has podtrace write the page of a recording.
    fn read(&self, name: &str) -> Result<PathBuf> {
        let page = self.page(name);
        let mut podtrace = Command::new(binary::podtrace()?);
        podtrace.arg("read").arg(recorded(name).with_extension("pcapng")).arg("--html").arg(&page);
        succeed(&mut podtrace, SHORT)?;
        keep(&page)?;
        Ok(page)
    }
}

fn keep(page: &FilePath) -> Result<()> {
    if let Some(directory) = std::env::var_os("PODTRACE_KEEP_PAGES") {
        let name = page.file_name().context("a page without a name")?;
        fs::copy(page, FilePath::new(&directory).join(name)).context("keeping a page")?;
    }
    Ok(())
}

/// Every path's verdict and hops, and what the trace amounts to.
fn recording(name: &str) -> Result<()> {
    let pages = Pages::new()?;
    let page = pages.read(name)?;
    for path in paths_of(name)? {
        let id = path["id"].as_u64().context("a path without a number")?;
        let dom = browser::look(&page, &format!("path={id}&hop=0"))?;
        let verdict = path["verdict"].as_str().context("a path without a verdict")?;
        let chosen = one(&dom, "<h2")?;
        ensure!(
            chosen.starts_with(&format!("#{id} ")),
            "path {id} was asked for, and this is shown: {chosen}"
        );
        let ending = one(&dom, "<p class=\"ending\"")?.to_lowercase();
        // The page has its own words for an answer that refuses, and for one that reports a failure.
        let is_error =
            path["label"].as_str().is_some_and(|label| label.starts_with("destination unreachable"));
        let words_for = match verdict {
            "rejected" => "refused",
            "delivered" if is_error => "icmp error delivered",
            verdict => verdict,
        };
        ensure!(ending.starts_with(words_for), "path {id} ends as {verdict}, and the page says: {ending}");
        let expected: Vec<_> = hops(&path)?.iter().map(|hop| words(&hop["device"])).collect();
        let stations = dom.texts("<span class=\"station");
        ensure!(stations == expected, "stations of path {id}: {stations:?} and not {expected:?}");
        let inferred = dom.texts("<span class=\"station inferred").len();
        let expected = hops(&path)?.iter().filter(|hop| hop["evidence"] == "inferred").count();
        ensure!(inferred == expected, "{inferred} stations look inferred, and {expected} are");
        let tunnels = dom.texts("<span class=\"box outer").len();
        let inside = hops(&path)?.iter().filter(|hop| has_outer_header_after(hop)).count();
        ensure!(tunnels == inside, "the packet is in a tunnel after {tunnels} hops, and not after {inside}");
        let headers = one(&dom, "<div class=\"headers\"")?;
        ensure!(headers.contains(&words(&hops(&path)?[0]["tuple"]["src"])), "headers: {headers}");
        ensure!(one(&dom, "<dl")?.contains("evidence"), "no details");
        if let Some(reason) = path["reason"].as_str() {
            ensure!(one(&dom, "<div class=\"verdict")?.contains(reason), "path {id} lacks {reason}");
        }
    }
    let dom = browser::look(&page, "")?;
    ensure!(one(&dom, "<div id=\"accounting\"")?.contains("all accounted for"), "{}", dom.markup());
    Ok(())
}

fn has_outer_header_after(hop: &Value) -> bool {
    !hop["outer"].is_null() && hop["action"] != "decapsulate"
}

/// The paths of a recording as `-o json` has them.
fn paths_of(name: &str) -> Result<Vec<Value>> {
    let text = fs::read_to_string(recorded(name).with_extension("json"))?;
    let mut finished = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    finished.retain(|line| line["type"] == "path");
    Ok(finished)
}

fn hops(path: &Value) -> Result<&Vec<Value>> {
    path["hops"].as_array().context("a path without hops")
}

fn words(value: &Value) -> String {
    value.as_str().unwrap_or("–").to_owned()
}

/// The text of the only such element.
fn one(dom: &Dom, start: &str) -> Result<String> {
    let texts = dom.texts(start);
    let [text] = &texts[..] else { anyhow::bail!("{} elements are {start}", texts.len()) };
    Ok(text.clone())
}

/// A path to make others from.
fn sample() -> Result<Path> {
    let finished = paths_of("cross-node-ping")?;
    let path = finished.into_iter().next().context("the recording tells of nothing")?;
    serde_json::from_value(path).context("making a path")
}

fn many_paths() -> Result<impl Iterator<Item = Path>> {
    let sample = sample()?;
    Ok((1..=MANY).map(move |id| {
        let mut path = sample.clone();
        path.id = id;
        path.flow.id = id;
        path.label = format!("echo request no{id}.");
        // Not in the order of their numbers.
        path.duration_ns = i64::try_from((id * 7_919) % 100_003).unwrap_or(i64::MAX);
        path
    }))
}

fn whole() -> Summary {
    Summary { complete: true, ..Summary::default() }
}

fn incomplete() -> Result<()> {
    let mut summary = Summary::default();
    summary.events.produced = 40;
    summary.events.lost_ring = 3;
    let pages = Pages::new()?;
    let page = pages.write("incomplete", [sample()?].into_iter(), &summary)?;
    let dom = browser::look(&page, "")?;
    let accounting = one(&dom, "<div id=\"accounting\" role=\"status\" class=\"incomplete\"")?;
    ensure!(accounting.contains("3 events lost to a full ring buffer"), "{accounting}");
    Ok(())
}

/// The list of changes where there are none.
const HIDDEN: &str =
    "<ol id=\"changes\" aria-label=\"Cluster changes during the trace (UTC)\" tabindex=\"0\" hidden";

/// What became of the cluster is a list above the paths; without any there is none to be seen.
fn changed() -> Result<()> {
    let pages = Pages::new()?;
    let none = pages.write("unchanged", [sample()?].into_iter(), &whole())?;
    one(&browser::look(&none, "")?, HIDDEN)?;
    let file = pages.page("changed");
    let mut page = Html::begin(BufWriter::new(File::create(&file)?), "changed")?;
    page.path(&sample()?)?;
    page.change(&Change::of(1_800_000_000_123_456_789, "default/<b>pod1</b>", ChangeKind::Gone))?;
    page.summary(&whole())?;
    keep(&file)?;
    let dom = browser::look(&file, "")?;
    let said = one(&dom, "<li")?;
    let expected = "08:00:00.123 default/<b>pod1</b> is gone; tracing resumes when it returns";
    ensure!(said == expected, "{said:?}");
    ensure!(dom.texts(HIDDEN).is_empty(), "it is hidden");
    Ok(())
}

/// The page of an incomplete recording says why.
fn lacking() -> Result<()> {
    let pages = Pages::new()?;
    let bytes = fs::read(recorded("cross-node-ping.pcapng"))?;
    let (cut, page) = (pages.0.path().join("cut.pcapng"), pages.page("cut"));
    fs::write(&cut, &bytes[..bytes.len() - 10])?;
    let output =
        run(Command::new(binary::podtrace()?).arg("read").arg(&cut).arg("--html").arg(&page), SHORT)?;
    ensure!(output.code() == 1, "it ended with {}: {}", output.code(), output.stderr);
    let dom = browser::look(&page, "")?;
    let accounting = one(&dom, "<div id=\"accounting\" role=\"status\" class=\"incomplete\"")?;
    let why = "the recording is damaged: it is truncated or damaged from byte";
    ensure!(accounting.contains(why) && output.stdout.contains(why), "{accounting}\n{}", output.stdout);
    Ok(())
}

/// A page truncated after its first path shows what it has and says that its end is missing.
fn killed() -> Result<()> {
    let pages = Pages::new()?;
    let text = fs::read_to_string(pages.read("cross-node-ping")?)?;
    let paths: Vec<_> = text.match_indices("class=\"path\"").map(|(at, _)| at).collect();
    let end = text.find("class=\"summary\"").context("the page has no end")?;
    for (cut, shown) in [(paths[1] + 100, "1 path"), (end - 20, "2 paths")] {
        let page = pages.page("killed");
        fs::write(&page, text.get(..cut).context("a cut within a character")?)?;
        let dom = browser::look(&page, "path=1")?;
        let accounting = one(&dom, "<div id=\"accounting\" role=\"status\" class=\"incomplete\"")?;
        ensure!(accounting.contains("The end of this page is missing"), "{accounting}");
        ensure!(one(&dom, "<span id=\"count\"")? == shown, "cut off at {cut}");
        ensure!(dom.texts("<span class=\"station").len() == 8, "cut off at {cut}");
    }
    Ok(())
}

/// Names that contain markup, and names that look like others.
fn hostile() -> Result<()> {
    const NAMES: [&str; 6] = [
        "<script>document.title='owned'</script>",
        "</script><script>document.title='owned'</script>",
        "<!--<script>",
        "\"'><img src=x onerror=document.title='owned'>",
        "{{script}}{{style}}${1}",
        "&lt;b&gt;",
    ];
    let mut path = sample()?;
    for (hop, name) in path.hops.iter_mut().zip(NAMES) {
        hop.device = Some(name.into());
    }
    path.from.pod = Some("default/\u{202e}1dop".into());
    path.label = NAMES.join(" ");
    path.hops[0].node = NAMES[1].into();
    let pages = Pages::new()?;
    let file = pages.write("hostile", [path].into_iter(), &whole())?;
    let dom = browser::look(&file, "path=1&hop=0")?;
    let stations = dom.texts("<span class=\"station");
    ensure!(stations[..NAMES.len()] == NAMES, "{stations:?}");
    ensure!(
        dom.texts("<title").first().is_some_and(|title| title == "podtrace hostile"),
        "a name was obeyed"
    );
    ensure!(dom.texts("<script").len() == 1 && dom.texts("<img").is_empty(), "a name became an element");
    let heading = one(&dom, "<h2")?;
    ensure!(heading.contains("default/\\u{202e}1dop"), "a hidden character is not shown: {heading}");
    ensure!(heading.contains(&NAMES.join(" ")), "{heading}");
    Ok(())
}

fn many() -> Result<()> {
    let pages = Pages::new()?;
    let page = pages.write("many", many_paths()?, &whole())?;
    let dom = browser::look(&page, &format!("path={MANY}"))?;
    ensure!(one(&dom, "<span id=\"count\"")? == "10,000 paths", "not all paths were counted");
    ensure!(one(&dom, "<h2")?.starts_with("#10000 "), "the last one cannot be picked");
    ensure!(dom.texts("<span class=\"station").len() == 8, "the last one is not drawn");
    let rows = dom.texts("<div role=\"row\" id=\"row-");
    ensure!(rows.len() < 100, "{} rows are in the document at once", rows.len());
    ensure!(rows.iter().any(|row| row.starts_with(&MANY.to_string())), "the last one's row cannot be seen");
    Ok(())
}

/// Scripts that get into the document do not run.
fn no_other_script() -> Result<()> {
    let pages = Pages::new()?;
    let page = pages.write("policy", [sample()?].into_iter(), &whole())?;
    let added = browser::act(
        &page,
        "const script = page.createElement('script'); script.textContent = 'document.title = 1';
         page.body.append(script); return page.title;",
    );
    let complaint = format!("{:#}", added.err().context("a script that was added was run")?);
    ensure!(complaint.contains("Content Security Policy"), "{complaint}");
    Ok(())
}

/// `podtrace read … --html FILE | true`
fn outlives_the_reader() -> Result<()> {
    let pages = Pages::new()?;
    let page = pages.page("alone");
    let mut podtrace = Command::new(binary::podtrace()?);
    podtrace.arg("read").arg(recorded("tcp-connection.pcapng")).arg("--html").arg(&page);
    let mut child = podtrace.stdout(Stdio::piped()).spawn()?;
    drop(child.stdout.take());
    let status = child.wait()?;
    ensure!(status.code() == Some(0), "{status}");
    let text = fs::read_to_string(&page)?;
    ensure!(text.matches("class=\"path\"").count() == paths_of("tcp-connection")?.len(), "paths are missing");
    ensure!(text.ends_with("</html>\n"), "it has no end");
    Ok(())
}

fn cannot_be_written() -> Result<()> {
    for (place, expected) in [
        ("/nonexistent/page.html", "podtrace: creating /nonexistent/page.html for --html: "),
        ("/dev/full", "writing /dev/full for --html: "),
    ] {
        let mut podtrace = Command::new(binary::podtrace()?);
        podtrace.arg("read").arg(recorded("lost-wire.pcapng")).args(["--html", place]);
        let output = run(&mut podtrace, SHORT)?;
        ensure!(output.code() == 1, "{place}: it ended with {}", output.code());
        ensure!(output.stderr.contains(expected), "{place}: {}", output.stderr);
    }
    Ok(())
}

fn sorting_and_filtering() -> Result<()> {
    let pages = Pages::new()?;
    let page = pages.write("sorting", many_paths()?, &whole())?;
    let slowest = many_paths()?.max_by_key(|path| path.duration_ns).context("no path")?.id;
    let seen = browser::act(
        &page,
        "const took = () => page.querySelector('[data-column=took] button');
         took().click(); took().click();
         const first = page.querySelector('[data-at=\"0\"]').id;
         const filter = page.getElementById('filter');
         filter.value = 'NO77 pod3'; filter.dispatchEvent(new view.Event('input'));
         const order = page.querySelector('[data-column=took]').getAttribute('aria-sort');
         const count = page.getElementById('count').textContent;
         page.querySelector('#verdicts button').click();
         return [first, order, count, page.getElementById('count').textContent].join(' | ');",
    )?;
    // 77, 770 to 779, 7700 to 7799.
    let expected = format!("row-{slowest} | descending | 111 of 10,000 paths | 0 of 10,000 paths");
    ensure!(seen == expected, "{seen}\nand not\n{expected}");
    Ok(())
}

/// Events of hooks in the network stack are in the hop's details.
fn stack() -> Result<()> {
    let mut path = paths_of("cross-node-ping")?.swap_remove(0);
    let routed = &mut path["hops"][1];
    let at = routed["at_ns"].as_i64().context("an untimed hop")?;
    routed["events"] = serde_json::json!([
        {"point": "tc:ingress", "device": "cni0", "at_ns": at, "detail": null},
        {"point": "kprobe:ip_rcv_core", "device": "cni0", "at_ns": at + 1_200, "detail": null},
        {"point": "kprobe:nf_hook_slow", "device": "cni0", "at_ns": at + 1_900, "detail": "FORWARD"},
        {"point": "kprobe:ip_forward", "device": "cni0", "at_ns": at + 2_500, "detail": "<b>"},
    ]);
    let path = serde_json::from_value(path).context("making a path")?;
    let pages = Pages::new()?;
    let page = pages.write("stack", [path].into_iter(), &whole())?;
    let rows = browser::look(&page, "path=1&hop=1")?.texts("<tr");
    let expected =
        ["+1.2 µskprobe:ip_rcv_core", "+1.9 µskprobe:nf_hook_slowFORWARD", "+2.5 µskprobe:ip_forward<b>"];
    ensure!(rows == expected, "{rows:?}");
    Ok(())
}

/// From a packet to its reply, and back.
fn flow() -> Result<()> {
    let pages = Pages::new()?;
    let page = pages.read("udp-closed-port")?;
    let seen = browser::act(
        &page,
        "const seen = []; const chosen = () => seen.push(page.querySelector('h2').textContent.split(' ')[0]);
         chosen();
         for (let step = 0; step < 2; step += 1) { page.querySelector('.neighbour').click(); chosen(); }
         return seen.join(' ');",
    )?;
    ensure!(seen == "#1 #2 #1", "{seen}");
    Ok(())
}

/// Sixty packets of three flows, every fifth of them lost.
fn chosen() -> Result<()> {
    let sample = sample()?;
    let paths = (1..=60_u64).map(|id| {
        let mut path = Path { id, started_at: sample.started_at + id * 1_000_000, ..sample.clone() };
        path.flow.id = id % 3 + 1;
        if id.is_multiple_of(5) {
            path.verdict = Verdict::Vanished;
            path.reason = Some("left node1 at eth0, never seen on node2".to_owned());
            path.hops.truncate(4);
        }
        path
    });
    let pages = Pages::new()?;
    let page = pages.write("chosen", paths, &whole())?;
    let seen = browser::act(
        &page,
        "const seen = []; const tab = (name) => page.querySelector(`[data-tab=${name}]`).click();
         const count = () => seen.push(page.getElementById('count').textContent);
         tab('flow'); seen.push(page.querySelectorAll('[data-flow]').length, page.getElementById('table').hidden);
         page.querySelector('[data-flow=\"2\"]').click(); count(); seen.push(view.location.hash.split('&').pop());
         seen.push(page.querySelectorAll('.flow .tick').length, page.querySelectorAll('.flow .tick.failed').length);
         tab('cause'); seen.push(page.querySelectorAll('[data-cause]').length);
         page.querySelector('[data-cause=\"1\"]').click(); count();
         page.querySelector('.chip').click(); count();
         seen.push(page.querySelectorAll('.latency tbody tr').length, page.querySelectorAll('.map .own').length > 2);
         return seen.join(' | ');",
    )?;
    let hops = sample.hops.iter().take(4).filter(|hop| hop.at_ns.is_some_and(|at| at > 0)).count() + 1;
    let expected = format!(
        "3 | true | 20 of 60 paths | flow=2 | 20 | 4 | 1 | 12 of 60 paths | 60 paths | {hops} | true"
    );
    ensure!(seen == expected, "{seen}\nand not\n{expected}");
    let shared = browser::look(&page, "cause=1")?;
    ensure!(
        shared.texts("<span id=\"count\"") == ["12 of 60 paths"],
        "{:?}",
        shared.texts("<span id=\"count\"")
    );
    Ok(())
}

fn keyboard() -> Result<()> {
    let pages = Pages::new()?;
    let page = pages.write("keys", many_paths()?, &whole())?;
    let seen = browser::act(
        &page,
        "const table = page.getElementById('table'); const seen = [];
         const chosen = () => seen.push(page.querySelector('h2').textContent.split(' ')[0]);
         table.focus(); chosen();
         for (const key of ['ArrowDown', 'ArrowDown', 'ArrowUp', 'End', 'Home']) { press(table, key); chosen(); }
         press(table, '/'); seen.push(page.activeElement.id);
         press(page.activeElement, 'Escape'); seen.push(page.activeElement.id);
         seen.push(table.getAttribute('aria-activedescendant'));
         const hop = page.querySelectorAll('.hop > button')[2];
         seen.push(hop.getAttribute('aria-expanded')); hop.click();
         seen.push(hop.getAttribute('aria-expanded'), page.getElementById('hop-2').hidden, view.location.hash);
         return seen.join(' ');",
    )?;
    let expected = "#1 #2 #3 #2 #10000 #1 filter table row-1 false true false #path=1&hop=2";
    ensure!(seen == expected, "{seen}\nand not\n{expected}");
    Ok(())
}
