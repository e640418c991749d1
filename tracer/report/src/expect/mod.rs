//! `--expect`: a small language for expectations about a trace, for use in CI. No I/O, no clock.
//!
//! 1. [`lexer`], [`parse`] and [`facts`] turn an expression into an [`ast`]. `docs/expect.md` describes the language.
//! 2. [`judge`] counts the paths for which each condition [`holds`].
//! 3. [`explain`] and [`why`] find out why an expectation failed.
//! 4. [`judgement`] formats the result for stderr, [`junit`] as XML.
//!
//! Truth has three values: a condition is open (undecided) if it depends on the clock error, or on hops that a trace which
//! lost events may have missed. Therefore each condition is judged twice, with and without the assumption that hops are
//! missing. Only a proved expectation passes.
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

use ast::{Claim, Counted, EndpointPattern, Predicate, Service};
use podtrace_protocol::inventory::Inventory;

use crate::syntax::SyntaxError;

pub use judge::Judge;
pub use judgement::Judgement;
pub use junit::{Suite, unfinished};

/// An expectation: a parsed expression.
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

/// An expectation names something that the cluster does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("--expect '{expression}' names {problem}")]
pub struct UnknownName {
    expression: String,
    problem: String,
}

impl Expectation {
    /// Looks up the addresses of Services, whose names are not in paths.
    ///
    /// # Errors
    /// If there is no such service.
    pub fn resolve(&mut self, inventory: &Inventory) -> Result<(), UnknownName> {
        let mut unknown = None;
        for counted in &mut self.conditions {
            counted.condition.facts_mut(&mut |fact| {
                if let Predicate::End(_, EndpointPattern::Service(service)) = &mut fact.predicate {
                    unknown = unknown.take().or(look_up(service, inventory).err());
                }
            });
        }
        match unknown {
            None => Ok(()),
            Some(problem) => Err(UnknownName { expression: self.text.clone(), problem }),
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
