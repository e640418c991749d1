//! Why packets did not arrive, and what to look at next.
//!
//! Two sources: what the kernel said of a drop ([`mod@advice`]), and what is wrong with the nodes' network state
//! ([`check`], which turns [`Facts`] into [`Finding`]s). [`explain`] joins them: a finding counts as the cause only where
//! the packet's own end fits it.

mod advice;
pub mod check;
mod concrete;
pub mod explain;
pub mod facts;
pub mod finding;
mod fitting;
mod inside;
mod nobody;
mod reasons;
mod unable;
mod unknown;
mod untranslated;
mod vanished;
pub(crate) mod words;

pub use advice::advice;
pub use facts::Facts;
pub use finding::Finding;
pub(crate) use inside::look as look_at_rule;
pub use vanished::advice_for_vanished;

use std::net::IpAddr;

use podtrace_path::{Context, Path};
use podtrace_protocol::frame::FromAgent;

use self::untranslated::Translations;

/// Explains lost packets by the network state collected from the nodes so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    facts: Facts,
    /// Cached findings; `None` if the facts changed since they were computed.
    findings: Option<Vec<Finding>>,
    /// How requests were translated.
    translations: Translations,
}

impl Diagnosis {
    /// Starts with the nodes' names and addresses; [`Self::learn`] adds their state.
    #[must_use]
    pub fn new(context: &Context) -> Self {
        Self { facts: Facts::new(context), ..Self::default() }
    }

    /// Processes a frame of a node.
    pub fn learn(&mut self, node: usize, frame: &FromAgent) {
        if self.facts.learn(node, frame) {
            self.findings = None;
        }
    }

    /// Adds nodes that joined the trace.
    pub fn join(&mut self, names: &[String]) {
        names.iter().for_each(|name| self.facts.join(name));
        self.findings = None;
    }

    /// All findings from the state known now.
    pub fn findings(&mut self) -> &[Finding] {
        self.current().1
    }

    /// The facts, and the findings from them.
    fn current(&mut self) -> (&Facts, &[Finding]) {
        let Self { facts, findings, translations: _ } = self;
        let findings = findings.get_or_insert_with(|| check::findings(facts));
        (facts, findings)
    }

    /// Possible reasons why no packet from this pod to any of these addresses was seen, a sentence each. `protocol` is an IP
    /// protocol number; `None` for any.
    pub fn explain_no_traffic(&mut self, pod: &str, to: &[IpAddr], protocol: Option<u8>) -> Vec<String> {
        let (facts, findings) = self.current();
        let mut reasons = inside::drops(pod, to, protocol, facts);
        reasons.extend(explain::for_no_traffic(pod, to, facts, findings).iter().map(ToString::to_string));
        reasons.extend(unknown::addresses(pod, facts));
        reasons
    }

    /// Adds advice to a path that was not delivered, or that its receiver will not answer. Paths come in the order of their
    /// reports: of a flow, the request goes first. Advice that is there already stays.
    ///
    /// # Examples
    ///
    /// ```
    /// use podtrace_path::Engine;
    /// use podtrace_report::diagnose::Diagnosis;
    /// use podtrace_report::recording::Reader;
    ///
    /// let mut recording = Reader::new(std::fs::File::open("../../tests/recordings/no-route.pcapng")?)?;
    /// let mut diagnosis = Diagnosis::new(&recording.header().context);
    /// let mut engine = Engine::new(recording.header().context.clone());
    /// let mut paths = Vec::new();
    /// while let Some((node, Some(frame))) = recording.next_frame() {
    ///     diagnosis.learn(node, &frame);
    ///     engine.ingest(node, &frame, &mut paths);
    /// }
    /// engine.finish(&mut paths);
    ///
    /// paths.iter_mut().for_each(|path| diagnosis.annotate(path));
    /// let drops = paths.iter().flat_map(|path| &path.hops).filter_map(|hop| hop.drop.as_ref());
    /// assert!(drops.filter_map(|drop| drop.advice.as_deref()).any(|advice| advice.contains("route")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn annotate(&mut self, path: &mut Path) {
        self.translations.learn(path);
        let untranslated = self.translations.explain(path, &self.facts);
        if let Some(drop) = path.hops.last_mut().and_then(|last| last.drop.as_mut()) {
            drop.advice = drop.advice.take().or(untranslated);
        }
        let (facts, findings) = self.current();
        advice::annotate(path, facts, findings);
        if path.advice.is_none() {
            path.advice = nobody::advice(path, facts).or_else(|| unable::advice(path, facts, findings));
        }
    }
}
