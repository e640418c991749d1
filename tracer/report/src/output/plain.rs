//! Parts of the text output for where there are no colours: other rooms' messages, files.

use super::Report;
use super::phrase::{PLAIN, Phrase};
use super::summary::Told;
use super::text::{Text, header};
use super::timing::{Step, Unit, steps};
use super::verdict;
use super::words::what;
use podtrace_path::{Path, Summary};

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

/// A hop's line of the text output, with the numbers of the path and the hop: what its packet is called in a file.
pub(crate) fn hop_line(path: &Path, index: usize) -> Option<String> {
    let step = steps(&path.hops).get(index).copied().flatten();
    let unit = Unit::of(path);
    let mut phrase = Phrase::new().with(PLAIN, format!("#{} hop {}/{}", path.id, index + 1, path.hops.len()));
    let time = match step {
        Some(Step { delta_ns, error_ns: Some(error) }) => {
            format!("{} {}", unit.signed(delta_ns), unit.error(error))
        }
        Some(Step { delta_ns, error_ns: None }) => format!("{} {}", unit.signed(delta_ns), unit.symbol()),
        None => String::new(),
    };
    if !time.is_empty() {
        phrase.append(PLAIN, time);
    }
    let hop = path.hops.get(index)?;
    phrase.append(PLAIN, &hop.node);
    if let Some(device) = &hop.device {
        phrase.push(PLAIN, " ");
        phrase.push(PLAIN, device);
    }
    let before = index.checked_sub(1).and_then(|index| path.hops.get(index));
    phrase.append(PLAIN, plain(&what(hop, before)));
    Some(plain(&phrase))
}

/// The lines that close a path.
pub(crate) fn ending(path: &Path) -> Vec<String> {
    verdict::lines(path, Unit::of(path)).iter().map(|line| plain(line).trim_start().to_owned()).collect()
}

/// What a trace amounts to, on one line.
pub(crate) fn summary(summary: &Summary) -> String {
    let lines = Told::default().lines(summary);
    lines.iter().map(|line| plain(line).trim().to_owned()).collect::<Vec<_>>().join("; ")
}

/// A path as the text output has it.
pub(crate) fn whole(path: &Path) -> String {
    let mut out = Vec::new();
    // Writing into memory cannot fail.
    let _ = Text::new(&mut out).path(path);
    anstream::adapter::strip_str(&String::from_utf8_lossy(&out)).to_string()
}

pub(super) fn plain(phrase: &Phrase) -> String {
    let mut out = String::new();
    phrase.write(&mut out);
    anstream::adapter::strip_str(&out).to_string()
}
