//! Opens a page in headless Chromium: its content, its errors, and its behaviour when used.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::{command, need};

/// Names of the program.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Options: headless, also as root, without background activity.
const OPTIONS: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--enable-logging=stderr",
];

/// Time limit to start and to load a page.
const WITHIN: Duration = Duration::from_secs(120);

/// Why Chromium cannot be used; `None` if it can.
#[must_use]
pub fn missing() -> Option<String> {
    find().is_none().then(|| "needs chromium: apt-get install chromium".to_owned())
}

fn find() -> Option<PathBuf> {
    NAMES.iter().find_map(|name| need::find(name))
}

/// Opens a page; `place` is the fragment of its address.
///
/// # Errors
///
/// If it cannot be opened, or its script logs an error.
pub fn look(page: &Path, place: &str) -> Result<Dom> {
    dump(&format!("file://{}#{place}", page.display()), &[])
}

/// Runs `script` in a page, whose document is `page`, and returns its result as text.
///
/// # Errors
///
/// If it cannot be opened, or a script logs an error.
pub fn act(page: &Path, script: &str) -> Result<String> {
    let directory = page.parent().context("the page is nowhere")?;
    let name = page.file_name().context("the page has no name")?.to_string_lossy();
    let frame = directory.join("frame.html");
    let document = format!(
        "<!DOCTYPE html><meta charset=utf-8><iframe src=\"{name}\" width=1400 height=900></iframe><pre></pre>\
         <script>onload = () => {{ const page = frames[0].document; const view = frames[0];\
         const press = (element, key) => element.dispatchEvent(new view.KeyboardEvent('keydown', {{ key, bubbles: true, \
         cancelable: true }}));\
         document.querySelector('pre').textContent = (() => {{ {script} }})(); }};</script>"
    );
    fs::write(&frame, document).with_context(|| format!("writing {}", frame.display()))?;
    // Only so may the frame look into the page.
    let dom = dump(&format!("file://{}", frame.display()), &["--allow-file-access-from-files"])?;
    dom.texts("<pre").into_iter().next().context("the script returned nothing")
}

fn dump(address: &str, options: &[&str]) -> Result<Dom> {
    let profile = tempfile::tempdir().context("making a directory for the browser")?;
    let mut browser = Command::new(find().context("there is no chromium")?);
    browser.args(OPTIONS).args(options).arg("--dump-dom");
    browser.arg(format!("--user-data-dir={}", profile.path().display())).arg(address);
    let output = command::succeed(&mut browser, WITHIN)?;
    let complaints: Vec<_> = output.stderr.lines().filter(|line| line.contains(":CONSOLE")).collect();
    ensure!(complaints.is_empty(), "the page complains: {}", complaints.join("\n"));
    Ok(Dom(output.stdout))
}

/// A document after its scripts have run.
#[derive(Clone, Debug)]
pub struct Dom(String);

impl Dom {
    /// The markup.
    #[must_use]
    pub fn markup(&self) -> &str {
        &self.0
    }

    /// The text of every element whose tag begins with `start`, such as `<p` or `<span class="x`.
    #[must_use]
    pub fn texts(&self, start: &str) -> Vec<String> {
        let mut texts = Vec::new();
        for (at, _) in self.0.match_indices(start) {
            let tag = &self.0[at..];
            let name: String =
                tag.chars().skip(1).take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
            texts.push(text(inside(tag, &name)));
        }
        texts
    }
}

/// The content of an element, nested elements of the same name included.
fn inside<'a>(tag: &'a str, name: &str) -> &'a str {
    let Some((_, content)) = tag.split_once('>') else { return "" };
    let (open, close) = (format!("<{name}"), format!("</{name}>"));
    let mut depth = 1;
    let mut at = 0;
    while let Some(next) = content[at..].find('<').map(|found| at + found) {
        if content[next..].starts_with(&close) {
            depth -= 1;
            if depth == 0 {
                return &content[..next];
            }
        } else if content[next..].starts_with(&open) {
            depth += 1;
        }
        at = next + 1;
    }
    content
}

/// Markup without its tags.
fn text(markup: &str) -> String {
    let mut text = String::new();
    let mut rest = markup;
    while let Some((before, tag)) = rest.split_once('<') {
        text.push_str(before);
        rest = tag.split_once('>').map_or("", |(_, after)| after);
    }
    text.push_str(rest);
    // What the browser writes of text, the ampersand last.
    [("&lt;", "<"), ("&gt;", ">"), ("&nbsp;", "\u{a0}"), ("&quot;", "\""), ("&amp;", "&")]
        .iter()
        .fold(text, |text, (written, meant)| text.replace(written, meant))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_the_elements_asked_for() {
        let markup = "<div class=\"a x\">1 <b>&lt;2&gt;</b><div>3</div></div><div class=\"b\">4</div>";
        let dom = Dom(markup.to_owned());
        assert_eq!(dom.texts("<div class=\"a"), ["1 <2>3"]);
        assert_eq!(dom.texts("<div"), ["1 <2>3", "3", "4"]);
        assert_eq!(dom.texts("<p"), Vec::<String>::new());
    }
}
