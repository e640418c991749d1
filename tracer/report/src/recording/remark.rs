//! Packet comments: each packet of a path describes its hop, the first one also the path, the last one also the verdict.

use crate::output::plain;
use podtrace_path::{Hop, Path, Source};

/// Comment of a packet that belongs to no finished path.
pub(super) const WITHOUT_PATH: &str = "podtrace: not part of a path reported before this packet was written";

/// The packets of a path in the order of its hops, each with its hop, record and comments.
pub(super) fn remarks(path: &Path) -> Vec<(&Hop, Source, Vec<String>)> {
    let mut remarks = Vec::new();
    for (index, hop) in path.hops.iter().enumerate() {
        if hop.sources.is_empty() {
            continue;
        }
        let line: Vec<_> = plain::hop_line(path, index).into_iter().collect();
        remarks.extend(hop.sources.iter().map(|source| (hop, *source, line.clone())));
    }
    if let Some((.., first)) = remarks.first_mut() {
        first.insert(0, plain::headline(path));
    }
    if let Some((.., last)) = remarks.last_mut() {
        last.extend(plain::ending(path));
    }
    remarks
}
