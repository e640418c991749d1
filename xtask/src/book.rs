//! `cargo xtask book`: the documentation as one book, built by mdBook in `target/book`.
//!
//! Pages stay where GitHub shows them: in `docs`, and some at the top of the checkout. For mdBook they are put into one
//! folder, where a link between pages leads to the page, and a link to another file of the checkout to the repository.
//! Links to web sites stay as they are.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail, ensure};

use crate::cargo_tool::CargoTool;
use crate::{run, workspace};

const MDBOOK: CargoTool =
    CargoTool { name: "mdbook", version: "0.5.4", why: "it makes a book of the documentation" };

const SUMMARY: &str = "docs/SUMMARY.md";

/// Where files are shown that are no pages.
const REPOSITORY: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/");

pub(crate) fn run() -> Result<ExitCode> {
    let book = Book::read(&workspace::root())?;
    let folder = workspace::target_dir().join("book");
    let about = || format!("cannot write {}", folder.display());
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(about)?;
    }
    fs::create_dir_all(folder.join("src")).with_context(about)?;
    for (name, text) in book.files()? {
        fs::write(folder.join("src").join(name), text).with_context(about)?;
    }
    copy(&workspace::root().join("docs/images"), &folder.join("src/images"))?;
    let settings = folder.join("book.toml");
    fs::copy(workspace::root().join("docs/book.toml"), settings).with_context(about)?;
    let mdbook = MDBOOK.provide()?;
    run::step("mdbook builds the book", Command::new(mdbook).arg("build").arg(&folder))?;
    println!("{}", folder.join("book/index.html").display());
    Ok(ExitCode::SUCCESS)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let about = || format!("cannot copy {}", from.display());
    fs::create_dir_all(to).with_context(about)?;
    for entry in fs::read_dir(from).with_context(about)? {
        let entry = entry.with_context(about)?;
        fs::copy(entry.path(), to.join(entry.file_name())).with_context(about)?;
    }
    Ok(())
}

/// The pages.
struct Book {
    root: PathBuf,
    summary: String,
    /// What a page is called in the book, by where it is in the checkout.
    pages: BTreeMap<PathBuf, String>,
}

impl Book {
    fn read(root: &Path) -> Result<Self> {
        let path = root.join(SUMMARY);
        let summary = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut pages = BTreeMap::new();
        for link in links(&summary) {
            let page = joined(Path::new(SUMMARY), &summary[link])?;
            // The first page of a book.
            let name = match page.file_name().and_then(|name| name.to_str()) {
                Some("README.md") => "index.md".to_owned(),
                Some(name) if page.starts_with("docs") => name.to_owned(),
                // docs has a page on security, too.
                Some(name) => format!("project-{}", name.to_lowercase()),
                None => bail!("{SUMMARY} links to no page: {}", page.display()),
            };
            ensure!(!pages.values().any(|known| *known == name), "two pages of {SUMMARY} are called {name}");
            pages.insert(page, name);
        }
        Ok(Self { root: root.to_owned(), summary, pages })
    }

    /// All pages with their links changed, by their names in the book.
    fn files(&self) -> Result<Vec<(String, String)>> {
        let mut files = vec![("SUMMARY.md".to_owned(), self.changed(Path::new(SUMMARY), &self.summary)?)];
        for (page, name) in &self.pages {
            let path = self.root.join(page);
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            files.push((name.clone(), self.changed(page, &text)?));
        }
        Ok(files)
    }

    /// A page's text with links as they are in the book.
    fn changed(&self, page: &Path, text: &str) -> Result<String> {
        let (mut changed, mut from) = (String::new(), 0);
        for link in links(text) {
            changed += &text[from..link.start];
            changed += &self.target(page, &text[link.clone()])?;
            from = link.end;
        }
        Ok(changed + &text[from..])
    }

    fn target(&self, page: &Path, link: &str) -> Result<String> {
        let (path, anchor) = link.split_once('#').map_or((link, ""), |(path, anchor)| (path, anchor));
        if link.contains("://") || link.starts_with("mailto:") || path.is_empty() {
            return Ok(link.to_owned());
        }
        let anchor = if anchor.is_empty() { String::new() } else { format!("#{anchor}") };
        let file = joined(page, path)?;
        Ok(match self.pages.get(&file) {
            Some(name) => format!("{name}{anchor}"),
            None if file.starts_with("docs/images") => file.strip_prefix("docs")?.display().to_string(),
            None => format!("{REPOSITORY}{}{anchor}", file.display()),
        })
    }
}

/// The file of the checkout that a link in `page` means.
fn joined(page: &Path, link: &str) -> Result<PathBuf> {
    let mut joined = page.parent().unwrap_or(page).to_owned();
    for component in Path::new(link).components() {
        match component {
            Component::Normal(name) => joined.push(name),
            Component::ParentDir if joined.pop() => {}
            Component::CurDir => {}
            _ => bail!("{} links out of the checkout: {link}", page.display()),
        }
    }
    Ok(joined)
}

/// Where the targets of a page's links are, those in code excepted.
fn links(text: &str) -> Vec<std::ops::Range<usize>> {
    let (mut found, mut at, mut in_block) = (Vec::new(), 0, false);
    for line in text.split_inclusive('\n') {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            for (start, _) in line.match_indices("](") {
                let (start, in_code) = (start + 2, line[..start].matches('`').count() % 2 == 1);
                if let (Some(len), false) = (line[start..].find(')'), in_code) {
                    found.push(at + start..at + start + len);
                }
            }
        }
        at += line.len();
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The pages at the top of the checkout.
    fn pages_at_the_top(root: &Path) -> BTreeSet<PathBuf> {
        markdown(root, Path::new(""))
    }

    fn markdown(root: &Path, folder: &Path) -> BTreeSet<PathBuf> {
        let names = fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().file_name());
        names
            .map(|name| folder.join(name))
            .filter(|path| path.extension().is_some_and(|of| of == "md"))
            .collect()
    }

    /// The anchor that GitHub and mdBook give a heading.
    fn anchor(heading: &str) -> String {
        let kept = heading.trim().to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    }

    fn anchors(text: &str) -> BTreeSet<String> {
        let mut in_block = false;
        let mut found = BTreeSet::new();
        for line in text.lines() {
            if line.trim_start().starts_with("```") {
                in_block = !in_block;
            } else if !in_block && line.starts_with('#') {
                found.insert(anchor(line.trim_start_matches('#')));
            }
        }
        found
    }

    #[test]
    fn the_book_has_every_page() {
        let root = workspace::root();
        let book = Book::read(&root).unwrap();
        let mut all = markdown(&root, Path::new("docs"));
        all.remove(Path::new(SUMMARY));
        all.append(&mut pages_at_the_top(&root));
        let named: BTreeSet<_> = book.pages.keys().cloned().collect();
        assert_eq!(named, all, "{SUMMARY} names the pages of docs and of the checkout's top");
    }

    #[test]
    fn links_of_pages_lead_to_files_and_headings() {
        let root = workspace::root();
        let mut broken = Vec::new();
        let book = Book::read(&root).unwrap();
        for page in book.pages.keys().map(PathBuf::as_path).chain([Path::new(SUMMARY)]) {
            let text = fs::read_to_string(root.join(page)).unwrap();
            for link in links(&text).into_iter().map(|link| &text[link]) {
                if link.contains("://") || link.starts_with("mailto:") {
                    continue;
                }
                let (path, wanted) = link.split_once('#').unwrap_or((link, ""));
                let file = if path.is_empty() { page.to_owned() } else { joined(page, path).unwrap() };
                let has_anchor = |text: String| wanted.is_empty() || anchors(&text).contains(wanted);
                let resolves = root.join(&file).is_dir() && wanted.is_empty()
                    || fs::read(root.join(&file))
                        .is_ok_and(|bytes| has_anchor(String::from_utf8_lossy(&bytes).into_owned()));
                if !resolves {
                    broken.push(format!("{}: {link}", page.display()));
                }
            }
        }
        assert!(broken.is_empty(), "links that lead nowhere: {broken:#?}");
    }

    #[test]
    fn links_lead_to_pages_or_to_the_repository() {
        let book = Book {
            root: PathBuf::new(),
            summary: String::new(),
            pages: [("README.md", "index.md"), ("docs/ci.md", "ci.md")]
                .map(|(path, name)| (PathBuf::from(path), name.to_owned()))
                .into(),
        };
        let page = Path::new("docs/ci.md");
        let text = "[a](../README.md#use) [b](../schema/s.json) [c](#here) [d](https://e.example/x.md) `[e](f.md)`\n\
                    ```\n[g](h.md)\n```\n![i](images/j.png)\n";
        let expected = format!(
            "[a](index.md#use) [b]({REPOSITORY}schema/s.json) [c](#here) [d](https://e.example/x.md) `[e](f.md)`\n\
             ```\n[g](h.md)\n```\n![i](images/j.png)\n"
        );
        assert_eq!(book.changed(page, text).unwrap(), expected);
        assert!(book.changed(page, "[a](../../etc/passwd)").is_err());
    }
}
