//! The answer in one line, before anything else of the end: what failed of how many, and why most of it.

use crate::output::phrase::{BAD, DIM, DOUBT, GOOD, PLAIN, Phrase};
use crate::output::words::thousands;
use crate::totals::{Finished, failed};
use podtrace_path::VerdictCounts;

use super::causes;

/// The line; `None` if there was no packet.
pub(super) fn line(finished: &Finished) -> Option<Phrase> {
    let VerdictCounts { delivered, dropped, vanished, rejected, open } = finished.totals.paths;
    let all = delivered + dropped + vanished + rejected + open;
    if all == 0 {
        return None;
    }
    let failures = failed(&finished.totals.paths);
    let packets = match (finished.totals.sample, all) {
        (None, 1) => "packet",
        (None, _) => "packets",
        (Some(_), 1) => "sampled packet",
        (Some(_), _) => "sampled packets",
    };
    if failures == 0 {
        // A count, no praise: what a trace has lost, it has not seen.
        let style = if open > 0 { DOUBT } else { GOOD };
        let mut phrase = Phrase::new().with(style, "DELIVERED");
        phrase.push(PLAIN, format!("  {} of {} {packets}", thousands(delivered), thousands(all)));
        if open > 0 {
            phrase.push(PLAIN, format!(", {} still in flight at the end", thousands(open)));
        }
        return Some(phrase);
    }
    let mut phrase = Phrase::new().with(BAD, "FAILED");
    phrase.push(PLAIN, format!("  {} of {} {packets}", thousands(failures), thousands(all)));
    if let Some(cause) = finished.causes.first() {
        let most = if cause.count < failures {
            format!(", {} of them ", thousands(cause.count))
        } else {
            ": ".to_owned()
        };
        phrase.push(PLAIN, most);
        phrase.join(causes::what(cause));
        phrase.push(DIM, format!(" (#{})", cause.example));
    }
    Some(phrase)
}
