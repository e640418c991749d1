//! Parts of the text output without colours, for recordings, expectations and JUnit files.

use super::phrase::{PLAIN, Phrase};
use super::summary::SummaryNotes;
use super::text::{Text, header};
use super::timing::{Unit, steps};
use super::verdict;
use super::words::describe_hop;
use super::{Paths, Report, View};
use podtrace_path::{Path, Summary};

/// The header of a path.
pub(crate) fn headline(path: &Path) -> String {
    plain(&header(path, false))
}

/// Describes a hop: `node1 cni0 (bridged)`; `None` if there is no hop with this index.
pub(crate) fn hop(path: &Path, index: usize) -> Option<String> {
    let hop = path.hops.get(index)?;
    let previous = index.checked_sub(1).and_then(|index| path.hops.get(index));
    let mut phrase = Phrase::new().with(PLAIN, &hop.node);
    if let Some(device) = &hop.device {
        phrase.push(PLAIN, " ");
        phrase.push(PLAIN, device);
    }
    let description = plain(&describe_hop(hop, previous));
    let place = plain(&phrase);
    Some(if description.is_empty() { place } else { format!("{place} ({description})") })
}

/// A hop's line of the text output with the numbers of path and hop: the comment of its packet in a recording.
pub(crate) fn hop_line(path: &Path, index: usize) -> Option<String> {
    let step = steps(&path.hops).get(index).copied().flatten();
    let mut phrase = Phrase::new().with(PLAIN, format!("#{} hop {}/{}", path.id, index + 1, path.hops.len()));
    let time = match step {
        Some(step) => {
            let (number, symbol) = step.time();
            step.error()
                .map_or_else(|| format!("{number} {symbol}"), |error| format!("{number} {symbol} {error}"))
        }
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
    let previous = index.checked_sub(1).and_then(|index| path.hops.get(index));
    phrase.append(PLAIN, plain(&describe_hop(hop, previous)));
    Some(plain(&phrase))
}

/// A path in full, in so many columns: its lines in the text output.
pub(crate) fn path_lines(path: &Path, width: usize) -> Vec<String> {
    let mut out = Vec::new();
    let view = View { width, paths: Paths::All, ..View::default() };
    // Writing to memory does not fail.
    let _ = Text::new(anstream::StripStream::new(&mut out)).with(view).path(path);
    String::from_utf8_lossy(&out).lines().map(str::to_owned).collect()
}

/// The verdict of a path, its advice and doubts: a line each.
pub(crate) fn ending(path: &Path) -> Vec<String> {
    verdict::lines(path, Unit::of(path)).iter().map(|line| plain(line).trim_start().to_owned()).collect()
}

/// The summary of a trace on one line.
pub(crate) fn summary(summary: &Summary) -> String {
    let lines = SummaryNotes::default().lines(summary);
    lines.iter().map(|line| plain(line).trim().to_owned()).collect::<Vec<_>>().join("; ")
}

/// A whole path in the format of the text output.
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
