//! Expectations of a trace, for CI: a small language over paths, judged path by path. Pure: no I/O, no clock.
//!
//! `docs/expect.md` is the language as users read it. An expression goes through [`lexer`], [`parse`] and [`facts`] to
//! [`ast`]; [`holds`] and [`judge`] say whether it holds, [`explain`] and [`why`] say why not, and [`judgement`] and
//! [`junit`] put that into words.
//!
//! Truth has three values. What a clock error leaves open is open, and so is what a trace that lost events cannot
//! tell: every condition is judged a second time as if hops were missing. Only what is shown counts as held.
//!
//! # Examples
//!
//! ```
//! use podtrace_path::Engine;
//! use podtrace_report::expect::{Expectation, Judge};
//! use podtrace_report::recording::Reader;
//!
//! let expectations = ["delivered and no-nat", "any(dropped)"].map(str::parse::<Expectation>);
//! let mut judge = Judge::new(expectations.into_iter().collect::<Result<_, _>>()?);
//!
//! let mut recording = Reader::new(std::fs::File::open("../../tests/recordings/cross-node-ping.pcapng")?)?;
//! let mut engine = Engine::new(recording.header().context.clone());
//! let mut paths = Vec::new();
//! while let Some((node, frame)) = recording.next_frame() {
//!     if let Some(frame) = frame {
//!         engine.ingest(node, &frame, &mut paths);
//!     }
//! }
//! let summary = engine.finish(&mut paths);
//! paths.iter().for_each(|path| judge.path(path));
//!
//! let judgements = judge.summary(&summary);
//! assert!(judgements[0].held && !judgements[1].held);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod ast;
mod error;
mod explain;
mod facts;
mod holds;
mod judge;
mod judgement;
mod junit;
mod lexer;
mod parse;
mod sequence;
#[cfg(test)]
mod tests;
mod truth;
mod vocabulary;
mod why;

use std::str::FromStr;

use ast::{Claim, Counted, Service, What, Who};

use podtrace_protocol::inventory::Inventory;

pub use error::SyntaxError;
pub use judge::Judge;
pub use judgement::Judgement;
pub use junit::{Suite, unfinished};

/// What is expected of a trace: an expression that follows the grammar.
#[derive(Clone, Debug, PartialEq)]
pub struct Expectation {
    text: String,
    claim: Claim,
    conditions: Vec<Counted>,
}

impl FromStr for Expectation {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (claim, conditions) = parse::parse(text)?;
        Ok(Self { text: text.to_owned(), claim, conditions })
    }
}

/// An expectation names what the cluster does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("--expect '{expression}' names {what}")]
pub struct UnknownName {
    expression: String,
    what: String,
}

impl Expectation {
    /// Looks the names of services up, which paths do not bear.
    ///
    /// # Errors
    /// If there is no such service.
    pub fn resolve(&mut self, inventory: &Inventory) -> Result<(), UnknownName> {
        let mut unknown = None;
        for counted in &mut self.conditions {
            counted.condition.facts_mut(&mut |fact| {
                if let What::End(_, Who::Service(service)) = &mut fact.what {
                    unknown = unknown.take().or(look_up(service, inventory).err());
                }
            });
        }
        match unknown {
            None => Ok(()),
            Some(what) => Err(UnknownName { expression: self.text.clone(), what }),
        }
    }
}

fn look_up(wanted: &mut Service, inventory: &Inventory) -> Result<(), String> {
    let full = |namespace: &str, name: &str| format!("{namespace}/{name}");
    let mut found = inventory
        .services
        .iter()
        .filter(|service| wanted.namespace.as_ref().is_none_or(|namespace| *namespace == service.namespace))
        .filter(|service| service.name == wanted.name)
        .peekable();
    if found.peek().is_none() {
        let names: Vec<_> =
            inventory.services.iter().map(|service| full(&service.namespace, &service.name)).collect();
        let name = wanted.namespace.as_ref().map_or(wanted.name.clone(), |ns| full(ns, &wanted.name));
        let likely = vocabulary::suggestion(&name, names.iter().map(String::as_str));
        return Err(match names.len() {
            0 => format!("svc/{name}, but the inventory has no services"),
            _ => format!("svc/{name}, which is not in the inventory{likely}"),
        });
    }
    for service in found {
        wanted.addresses.extend(&service.cluster_ips);
        if service.cluster_ips.is_empty() {
            wanted.pods.extend(service.endpoints.iter().cloned());
        }
    }
    Ok(())
}
