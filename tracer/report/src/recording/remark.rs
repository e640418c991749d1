//! What the packets of a path say of it: each its hop, the first one what the path is, the last one how it ended.

use crate::output::plain;
use podtrace_path::{Hop, Path, Source};

/// Of a packet that is part of no finished path.
pub(super) const APART: &str = "podtrace: of no path that was told before this was written";

/// The packets of a path in the order of its hops: the hop, the record, what is said of it.
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
