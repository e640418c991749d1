//! The end of the text outputs: causes, routes, flows and numbers, on one screen whatever the traffic was.
//!
//! Input: the [`Finished`] totals and what is wanted of them. Output: styled lines. Each section has a number of lines at most,
//! wrapped at the terminal's width; what does not fit is counted in its last line.

mod answer;
pub(super) mod causes;
mod flows;
mod numbers;
pub(super) mod routes;

use super::View;
use super::layout::write_line;
use super::phrase::{DIM, NAME, PLAIN, Phrase};
use super::words::{address, endpoint_name};
use crate::totals::{Finished, failed};
use podtrace_path::End;

/// Lines that causes, routes and flows have together: with empty lines, numbers and the summary they fit 45.
const LINES: usize = 35;

/// Lines of causes at most.
const CAUSES: usize = 15;

/// Lines of routes at most.
const ROUTES: usize = 14;

/// Lines that are left to flows at least.
const FLOWS: usize = 10;

/// Which sections the end has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sections {
    pub(super) causes: bool,
    pub(super) routes: bool,
    pub(super) flows: bool,
    /// Lists every flow, however many.
    pub(super) every_flow: bool,
}

/// Appends the end, but for the summary.
pub(super) fn push(finished: &Finished, sections: Sections, view: &View, text: &mut String) {
    // With nothing but a few delivered paths above it, the summary says it all.
    let says_more = sections.causes || sections.routes || sections.flows || sections.every_flow;
    if (says_more || failed(&finished.totals.paths) > 0)
        && let Some(answer) = answer::line(finished)
    {
        write_line(&answer, 0, 2, view.width, text);
        if says_more {
            text.push('\n');
        }
    }
    let mut parts = Vec::new();
    let mut room = LINES;
    let mut add = |part: String| {
        room -= part.lines().count().min(room);
        parts.push(part);
        room
    };
    if sections.causes {
        add(causes::section(finished, view.width, CAUSES));
    }
    if sections.routes {
        let room = add(String::new());
        add(routes::section(finished, view.width, room.saturating_sub(FLOWS).min(ROUTES)));
    }
    if sections.every_flow {
        add(flows::table(finished, view));
    } else if sections.flows {
        let room = add(String::new());
        add(flows::section(finished, view.width, room));
    }
    for part in parts.into_iter().filter(|part| !part.is_empty()) {
        text.push_str(&part);
        text.push('\n');
    }
    for line in numbers::lines(finished) {
        write_line(&line, 0, 2, view.width, text);
    }
}

/// A heading.
fn heading(name: &str, about: &str) -> Phrase {
    let mut phrase = Phrase::new().with(NAME, name);
    if !about.is_empty() {
        phrase.append(DIM, about);
    }
    phrase
}

/// What did not fit.
fn more(about: &str, width: usize, text: &mut String) {
    write_line(&Phrase::new().with(DIM, about), 2, 2, width, text);
}

/// An end by its name, with its port: `default/pod1:34282`, `svc/default/web:80`, `10.0.0.1:80`.
fn end(end: &End) -> Phrase {
    match (endpoint_name(end), end.port) {
        (Some(name), Some(port)) => Phrase::new().with(NAME, name).with(PLAIN, format!(":{port}")),
        (Some(name), None) => Phrase::new().with(NAME, name),
        (None, port) => Phrase::new().with(PLAIN, address(end.ip, port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{plain::plain, samples};
    use crate::totals::{self, Collector};
    use podtrace_path::{Path, Verdict};

    const ALL: Sections = Sections { causes: true, routes: true, flows: true, every_flow: false };

    fn text(paths: impl IntoIterator<Item = Path>, sections: Sections, width: usize) -> String {
        let mut collector = Collector::default();
        paths.into_iter().for_each(|path| collector.add(&path));
        let mut text = String::new();
        push(
            &collector.finished(totals::End::default()),
            sections,
            &View { width, ..View::default() },
            &mut text,
        );
        anstream::adapter::strip_str(&text).to_string()
    }

    /// Paths of every kind in as many flows, ways and causes as there are numbers.
    fn mixed(number: u32) -> impl Iterator<Item = Path> {
        (1..=number).map(|id| {
            let mut path = if id.is_multiple_of(50) { samples::dropped() } else { samples::nat() };
            (path.id, path.flow.id) = (u64::from(id), u64::from(id));
            path.hops[0].device = Some(format!("veth{:x}", id % 60).into());
            if path.verdict == Verdict::Dropped {
                path.hops.iter_mut().for_each(|hop| hop.device = Some(format!("eth{}", id % 1_000).into()));
            }
            path
        })
    }

    #[test]
    fn the_end_fits_one_screen_whatever_the_traffic() {
        for number in [1, 100, 10_000] {
            let text = text(mixed(number), ALL, 80);
            assert!(text.lines().count() <= 41, "{} lines:\n{text}", text.lines().count());
            let widest = text.lines().map(|line| line.chars().count()).max();
            assert!(widest.is_some_and(|widest| widest <= 80), "{widest:?}:\n{text}");
        }
    }

    #[test]
    fn the_answer_comes_first() {
        let first = |text: String| text.lines().next().unwrap_or_default().to_owned();
        let none = Sections { causes: false, routes: false, flows: false, every_flow: false };
        let failure = first(text(mixed(200), ALL, 120));
        assert!(failure.starts_with("FAILED  4 of 200 packets, 1 of them DROPPED "), "{failure}");
        assert!(failure.ends_with("(#50)"), "{failure}");
        assert_eq!(first(text(mixed(49), ALL, 80)), "DELIVERED  49 of 49 packets");
        let only = first(text([samples::dropped()], none, 120));
        assert!(only.starts_with("FAILED  1 of 1 packet: DROPPED "), "{only}");
        assert!(!text([samples::nat()], none, 80).contains("DELIVERED"));
        let open = Path { verdict: Verdict::Open, ..samples::nat() };
        let open = first(text([samples::nat(), open], ALL, 80));
        assert_eq!(open, "DELIVERED  1 of 2 packets, 1 still in flight at the end");
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let text = text(mixed(10_000), ALL, 80);
        assert!(text.contains("more causes"), "{text}");
        assert!(text.contains("more routes"), "{text}");
        assert!(text.contains("more flows"), "{text}");
    }

    #[test]
    fn an_end_is_named_with_its_port() {
        let mut pod = samples::split_tcp().from;
        assert!(plain(&end(&pod)).starts_with("default/"), "{}", plain(&end(&pod)));
        (pod.pod, pod.node) = (None, None);
        assert_eq!(plain(&end(&pod)), format!("{}:{}", pod.ip, pod.port.unwrap()));
    }
}
