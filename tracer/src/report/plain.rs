//! Parts of the text output for where there are no colours: other rooms' messages, files.

use super::Report;
use super::phrase::{PLAIN, Phrase};
use super::text::{Text, header};
use super::words::what;
use crate::path::Path;

/// What leads a path in the text output: how it went, which it is, from whom to whom.
pub(crate) fn headline(path: &Path) -> String {
    plain(&header(path)).trim_start().to_owned()
}

/// A hop in words: where it is and what happened; `None` if there is none of this index.
pub(crate) fn hop(path: &Path, index: usize) -> Option<String> {
    let hop = path.hops.get(index)?;
    let before = index.checked_sub(1).and_then(|index| path.hops.get(index));
    let mut phrase = Phrase::new().with(PLAIN, &hop.node);
    if let Some(device) = &hop.device {
        phrase.push(PLAIN, " ");
        phrase.push(PLAIN, device);
    }
    let happened = plain(&what(hop, before));
    let place = plain(&phrase);
    Some(if happened.is_empty() { place } else { format!("{place} ({happened})") })
}

/// A path as the text output has it.
pub(crate) fn whole(path: &Path) -> String {
    let mut out = Vec::new();
    // Writing into memory cannot fail.
    let _ = Text::new(&mut out).path(path);
    anstream::adapter::strip_str(&String::from_utf8_lossy(&out)).to_string()
}

fn plain(phrase: &Phrase) -> String {
    let mut out = String::new();
    phrase.write(&mut out);
    anstream::adapter::strip_str(&out).to_string()
}
