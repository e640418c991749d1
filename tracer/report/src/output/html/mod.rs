//! `--html`: a self-contained HTML page, which needs no server and no other file.
//!
//! The page starts with style and script. After that, each path is written as it finishes, as a JSON data element. So
//! memory does not grow with the trace, and the page of a killed tracer shows the paths so far and that its end is
//! missing. A browser holds the whole page, so `room` limits the number of paths, and the page says how many are missing.
//! `view` is the JSON of a path; `assets/` has the script that draws it.

mod embed;
mod room;
mod view;

use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use self::room::Room;
use self::view::{ChangeView, PathView, SummaryView, TraceView};
use super::Report;
use super::summary::SummaryNotes;
use podtrace_path::{Change, Path, Summary};

const TEMPLATE: &str = include_str!("assets/page.html");
const STYLE: &str = include_str!("assets/page.css");
/// All scripts as one, so that the content security policy needs one hash.
const SCRIPT: &str = concat!(
    "\"use strict\";\n",
    include_str!("assets/dom.js"),
    include_str!("assets/data.js"),
    include_str!("assets/table.js"),
    include_str!("assets/groups.js"),
    include_str!("assets/picture.js"),
    include_str!("assets/flow.js"),
    include_str!("assets/main.js"),
);
const END: &str = "</body>\n</html>\n";

/// A page that is being written.
#[derive(Debug)]
pub struct Html<W> {
    out: W,
    notes: SummaryNotes,
    room: Room,
}

impl<W: Write> Html<W> {
    /// Writes the page up to its first path; `title` names what is traced.
    ///
    /// # Errors
    /// If writing fails.
    pub fn begin(mut out: W, title: &str) -> io::Result<Self> {
        let page = TEMPLATE
            .replace("{{script-hash}}", &hash(SCRIPT))
            .replace("{{style-hash}}", &hash(STYLE))
            .replace("{{style}}", STYLE)
            .replace("{{script}}", SCRIPT);
        out.write_all(page.as_bytes())?;
        let mut page = Self { out, notes: SummaryNotes::default(), room: Room::default() };
        page.data("trace", &TraceView::new(title))?;
        Ok(page)
    }

    /// Writes a data element, which the browser does not execute.
    fn data(&mut self, kind: &str, data: &impl Serialize) -> io::Result<()> {
        let mut element = format!("<script type=\"application/json\" class=\"{kind}\">").into_bytes();
        embed::write(&mut element, data)?;
        element.extend_from_slice(b"</script>\n");
        self.out.write_all(&element)?;
        self.out.flush()
    }
}

impl<W: Write> Report for Html<W> {
    fn path(&mut self, path: &Path) -> io::Result<()> {
        self.notes.add_path(path);
        if self.room.take(path.verdict) {
            self.data("path", &PathView::new(path))
        } else if self.room.is_just_full() {
            // Now and not at the end: the tracer may be killed.
            self.data("full", &true)
        } else {
            Ok(())
        }
    }

    fn change(&mut self, change: &Change) -> io::Result<()> {
        if self.room.take_change() { self.data("change", &ChangeView::new(change)) } else { Ok(()) }
    }

    fn damage(&mut self, damage: &str) -> io::Result<()> {
        self.notes.set_damage(damage);
        Ok(())
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        let mut lines = self.notes.lines(summary);
        lines.extend(self.room.notes());
        self.data("summary", &SummaryView::new(summary, &lines))?;
        self.out.write_all(END.as_bytes())?;
        self.out.flush()
    }
}

/// Hash by which the content security policy allows the page's own script and style.
fn hash(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;
    use podtrace_path::ChangeKind;

    fn page(paths: &[Path]) -> String {
        let mut out = Vec::new();
        let mut page = Html::begin(&mut out, "</script><!--<script>alert(1)</script>").unwrap();
        for path in paths {
            page.path(path).unwrap();
        }
        page.summary(&Summary::default()).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn nothing_is_left_to_fill_in_and_nothing_comes_from_elsewhere() {
        let page = page(&[]);
        assert!(!page.contains("{{"), "{page}");
        for elsewhere in ["http://", "https://", "src=", "@import", "url(", "innerHTML", "eval("] {
            let found = page.match_indices(elsewhere).map(|(at, _)| &page[at..(at + 60).min(page.len())]);
            // The name of SVG, which nobody fetches.
            let found: Vec<_> = found.filter(|text| !text.contains("www.w3.org/2000/svg")).collect();
            assert_eq!(found, Vec::<&str>::new());
        }
    }

    #[test]
    fn text_from_outside_ends_no_element_and_begins_none() {
        let mut path = samples::hostile();
        path.label = "</script><script>alert(1)</script><!-- ]]> '\"".to_owned();
        path.hops[0].device = Some("</ScRiPt ><img onerror=alert(1)>".into());
        let page = page(&[path]);
        // The script, and the data of the trace, of one path and of the summary.
        assert_eq!(page.matches("<script").count(), 4, "{page}");
        assert_eq!(page.matches("</script").count(), 4);
        for begun in ["<!--", "<img", "</ScRiPt"] {
            assert!(!page.contains(begun), "{begun}");
        }
    }

    #[test]
    fn changes_are_on_the_page_as_text() {
        let mut out = Vec::new();
        let mut page = Html::begin(&mut out, "").unwrap();
        let change = Change::of(1_800_000_000_123_456_789, "default/</script><img>\u{1b}", ChangeKind::Gone);
        page.change(&change).unwrap();
        page.summary(&Summary::default()).unwrap();
        let page = String::from_utf8(out).unwrap();
        assert!(page.contains(r#"class="change">{"at":"2027-01-15T08:00:00.123456789Z""#), "{page}");
        assert!(!page.contains("<img>") && !page.contains('\u{1b}'));
    }

    #[test]
    fn a_full_page_says_what_is_missing() {
        let mut out = Vec::new();
        let mut page = Html::begin(&mut out, "").unwrap();
        page.room = Room::for_paths(1, 1);
        for path in [samples::same_node(), samples::same_node(), samples::vanished(), samples::same_node()] {
            page.path(&path).unwrap();
        }
        page.summary(&Summary::default()).unwrap();
        let page = String::from_utf8(out).unwrap();
        let data = |class: &str| page.matches(&format!("class=\"{class}\">")).count();
        assert_eq!((data("path"), data("full"), data("summary")), (2, 1, 1));
        assert!(page.contains("2 paths are not on this page"), "{page}");
    }

    #[test]
    fn a_page_without_its_end_says_nothing_of_completeness() {
        let mut out = Vec::new();
        let mut page = Html::begin(&mut out, "a → b").unwrap();
        page.path(&samples::same_node()).unwrap();
        let page = String::from_utf8(out).unwrap();
        assert!(page.contains(r#"class="path">{"id":3"#), "{page}");
        assert!(!page.contains(r#"class="summary""#), "{page}");
    }
}
