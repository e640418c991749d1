//! The ends of the traffic and the filter, from options and bare arguments.
//!
//! 1. Bare arguments are the ends that no option gives, the source first. A word of pcap filters, or an argument of several
//!    words, begins the filter: all that follows belongs to it.
//! 2. Label selectors (`-l`) are the ends that are still not given.
//! 3. Several endpoints of one side are traced together.

use anyhow::Result;

use super::UsageError;
use super::args::Ends;
use podtrace_protocol::inventory::Endpoint;
use podtrace_report::filter::{Filter, begins_filter};

/// What was named on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) from: Endpoint,
    pub(super) to: Endpoint,
    /// The filter of the bare arguments.
    pub(super) filter: Option<Filter>,
    /// Whether anything was named at all.
    pub(super) anything: bool,
}

/// The ends and the filter of options and bare arguments.
///
/// # Errors
///
/// If one of them cannot be parsed, or there are too many.
pub(super) fn named(ends: &Ends, words: &[String]) -> Result<Named> {
    let mut sides = [endpoints(&ends.from)?, endpoints(&ends.to)?];
    let mut words = words.iter();
    for side in sides.iter_mut().filter(|side| side.is_empty()) {
        let Some(word) = words.as_slice().first().filter(|word| !begins_filter(word)) else { break };
        side.push(endpoint(word)?);
        words.next();
    }
    let filter = filter(words.as_slice())?;
    let mut selectors = ends.selector.iter();
    for side in sides.iter_mut().filter(|side| side.is_empty()) {
        let Some(selector) = selectors.next() else { break };
        side.push(Endpoint::Labels { everywhere: ends.all_namespaces, selector: selector.clone() });
    }
    if let Some(selector) = selectors.next() {
        return usage(format!(
            "-l '{selector}' is for an end that is not given, but both are: leave out --from or --to, or select by labels \
             alone"
        ));
    }
    let anything = ends.all_namespaces || filter.is_some() || sides.iter().any(|side| !side.is_empty());
    let [from, to] = sides.map(joined);
    Ok(Named { from, to, filter, anything })
}

fn endpoints(texts: &[String]) -> Result<Vec<Endpoint>> {
    texts.iter().map(|text| endpoint(text)).collect()
}

fn endpoint(text: &str) -> Result<Endpoint> {
    text.parse::<Endpoint>().or_else(|error| usage(error.to_string()))
}

fn joined(mut side: Vec<Endpoint>) -> Endpoint {
    match (side.pop(), side.is_empty()) {
        (None, _) => Endpoint::Any,
        (Some(only), true) => only,
        (Some(last), false) => {
            side.push(last);
            Endpoint::Several(side)
        }
    }
}

fn filter(words: &[String]) -> Result<Option<Filter>> {
    if words.is_empty() {
        return Ok(None);
    }
    let text = words.join(" ");
    text.parse().map(Some).or_else(|error| {
        // Shown on one line: the marks under the expression would stand anywhere.
        let why = format!("{error}");
        let why = why.lines().next().unwrap_or_default();
        usage(format!(
            "the bare arguments `{text}` are no pcap filter ({why}): bare are FROM, TO and a filter such as 'tcp port 80'; \
             further ends take --from and --to"
        ))
    })
}

fn usage<T>(text: String) -> Result<T> {
    Err(UsageError(text).into())
}
