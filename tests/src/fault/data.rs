//! Faults as data: how to break a lab, and the right answer. `faults/README.md` shows the format.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::doctor::Finds;
use super::names::Names;

/// One kind of fault, in all its variants.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kind {
    /// What is broken, in a sentence.
    pub about: String,
    /// Nothing is broken: no path may fail and nothing may be advised.
    #[serde(default)]
    pub healthy: bool,
    /// The machine has more to do than it can: a trace may lose events, and then says so.
    #[serde(default)]
    pub overload: bool,
    /// Programs that have to be installed.
    #[serde(default)]
    pub needs: Vec<String>,
    /// Why only a virtual machine can do it.
    pub guests: Option<String>,
    /// How the lab's Services are written: `nft`, `iptables`, or `none`.
    #[serde(default = "none")]
    pub rules: String,
    /// What is set up before the network is warmed up.
    #[serde(default)]
    pub prepare: Vec<Step>,
    /// Breaks it.
    #[serde(default)]
    pub fault: Vec<Step>,
    /// Commands that run during the trace.
    #[serde(default)]
    pub serve: Vec<Server>,
    /// Arguments of podtrace instead of those that follow from the variant.
    pub trace: Option<String>,
    /// Commands run once the trace is ready, instead of a probe.
    #[serde(default)]
    pub traffic: Vec<Step>,
    /// What podtrace prints as fixes, applied, lets the client's pings be answered again.
    #[serde(default)]
    pub heals: bool,
    /// The right answer.
    #[serde(default)]
    pub expect: Expected,
    /// What `podtrace doctor` finds, if it can.
    pub doctor: Option<Finds>,
    /// The runs.
    pub variants: Vec<Written>,
}

/// A variant as it is written: its words, or these and what differs for it.
#[derive(Clone, Debug)]
pub enum Written {
    /// `pod1>pod3 tcp reply cold during`.
    Words(String),
    /// With steps or an answer of its own.
    With(Box<Differing>),
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Written;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a variant's words, or a map with `when`")
            }

            fn visit_str<E>(self, words: &str) -> std::result::Result<Written, E> {
                Ok(Written::Words(words.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<Written, A::Error> {
                let differing = Differing::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Written::With(Box::new(differing)))
            }
        }
        // Not `untagged`: what that buffers takes the key `on` for a boolean.
        deserializer.deserialize_any(Either)
    }
}

/// What differs for a variant.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Differing {
    when: String,
    /// A word that tells it from another variant of the same words.
    name: Option<String>,
    fault: Option<Vec<Step>>,
    traffic: Option<Vec<Step>>,
    trace: Option<String>,
    heals: Option<bool>,
    #[serde(default)]
    expect: Expected,
}

/// A command that is run to its end.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// A pod, a node, `world` or `fabric`.
    pub on: String,
    /// The command; run by a shell if it holds what only a shell understands.
    pub run: String,
    /// The status that it ends with; any if left out of `traffic`, else 0.
    pub status: Option<i32>,
}

/// A command that runs during the trace.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// A pod or a node.
    pub on: String,
    /// The command.
    pub run: String,
    /// How the line begins that says it is ready.
    pub ready: Option<String>,
}

/// The right answer.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// Verdicts that are right for the packets from `$src`.
    pub verdict: Option<Vec<String>>,
    /// Where the packet ended.
    pub place: Option<Vec<Place>>,
    /// Patterns that must all be found in the output.
    pub cause: Option<Vec<String>>,
    /// Patterns that must not be found, for they are false here.
    pub never: Option<Vec<String>>,
    /// Claims of `claims.yaml` that are true here.
    #[serde(rename = "true")]
    pub true_claims: Option<Vec<String>>,
}

/// Where a packet ended.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Its node.
    pub node: Option<String>,
    /// The device there, as a pattern.
    pub device: Option<String>,
    /// The pod inside of which, without its namespace.
    pub pod: Option<String>,
    /// A pattern of the output, where no path shows the place.
    pub text: Option<String>,
}

/// What a variant is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ways {
    /// The pod whose packets are lost.
    pub src: String,
    /// The pod that they are for.
    pub dst: String,
    /// `icmp`, `tcp` or `udp`.
    pub protocol: String,
    /// The packets that are lost are answers.
    pub reply: bool,
    /// Neighbours are forgotten before the traffic.
    pub cold: bool,
    /// The fault comes while the trace runs.
    pub during: bool,
    /// Over IPv6, in a lab that has both.
    pub ipv6: bool,
}

/// A variant with every name in it replaced.
#[derive(Clone, Debug)]
pub struct Variant {
    /// `KIND/pod1-pod3-tcp-reply`.
    pub name: String,
    /// The kind's name.
    pub kind: String,
    /// See there.
    pub ways: Ways,
    /// The kind, with this variant's steps and answer.
    pub what: Kind,
}

fn none() -> String {
    "none".to_owned()
}

/// The directory of the faults.
#[must_use]
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("faults")
}

/// All kinds with their names, in the order of these.
///
/// # Errors
///
/// If one cannot be read.
pub fn kinds() -> Result<Vec<(String, Kind)>> {
    let directory = directory();
    let mut kinds = Vec::new();
    for entry in directory.read_dir().with_context(|| format!("reading {}", directory.display()))? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if path.extension().is_some_and(|extension| extension == "yaml") && name != "claims" {
            let about = || format!("reading {}", path.display());
            let text = std::fs::read_to_string(&path).with_context(about)?;
            kinds.push((name, serde_saphyr::from_str(&text).with_context(about)?));
        }
    }
    kinds.sort_by(|(one, _), (other, _): &(String, Kind)| one.cmp(other));
    Ok(kinds)
}

/// All variants of all kinds.
///
/// # Errors
///
/// If one cannot be read or its words are wrong.
pub fn variants() -> Result<Vec<Variant>> {
    let mut variants: Vec<Variant> = Vec::new();
    for (name, kind) in kinds()? {
        for written in &kind.variants {
            let variant = kind.variant(&name, written).with_context(|| format!("in faults/{name}.yaml"))?;
            let twice = variants.iter().any(|other| other.name == variant.name);
            ensure!(!twice, "{} is there twice: give one of them a `name`", variant.name);
            variants.push(variant);
        }
    }
    Ok(variants)
}

impl Kind {
    fn variant(&self, kind: &str, written: &Written) -> Result<Variant> {
        let mut what = self.clone();
        let (words, given) = match written {
            Written::Words(words) => (words, None),
            Written::With(differing) => {
                let words = &differing.when;
                let differing = (**differing).clone();
                what.fault = differing.fault.unwrap_or(what.fault);
                what.traffic = differing.traffic.unwrap_or(what.traffic);
                what.trace = differing.trace.or(what.trace);
                what.heals = differing.heals.unwrap_or(what.heals);
                let (own, general) = (differing.expect, what.expect);
                what.expect = Expected {
                    verdict: own.verdict.or(general.verdict),
                    place: own.place.or(general.place),
                    cause: own.cause.or(general.cause),
                    never: own.never.or(general.never),
                    true_claims: own.true_claims.or(general.true_claims),
                };
                (words, differing.name)
            }
        };
        let ways = Ways::read(words)?;
        let names = Names::of(&ways)?;
        for step in what.prepare.iter_mut().chain(&mut what.fault).chain(&mut what.traffic) {
            step.on = names.fill(&step.on);
            step.run = names.fill(&step.run);
        }
        for server in &mut what.serve {
            server.on = names.fill(&server.on);
            server.run = names.fill(&server.run);
        }
        what.trace = what.trace.map(|trace| names.fill(&trace));
        let fill = |patterns: &mut Option<Vec<String>>| {
            for pattern in patterns.iter_mut().flatten() {
                *pattern = names.fill(pattern);
            }
        };
        fill(&mut what.expect.cause);
        fill(&mut what.expect.never);
        what.doctor = what.doctor.map(|finds| finds.filled(&names));
        for place in what.expect.place.iter_mut().flatten() {
            for part in [&mut place.node, &mut place.device, &mut place.pod, &mut place.text] {
                *part = part.as_deref().map(|text| names.fill(text));
            }
        }
        let suffix = given.map(|given| format!("-{given}")).unwrap_or_default();
        let name = format!("{kind}/{}{suffix}", words.replace(['>', ' '], "-"));
        Ok(Variant { name, kind: kind.to_owned(), ways, what })
    }
}

impl Ways {
    fn read(words: &str) -> Result<Self> {
        let mut words = words.split_whitespace();
        let ends = words.next().and_then(|ends| ends.split_once('>'));
        let (src, dst) = ends.context("a variant begins with its pods: `pod1>pod3`")?;
        let mut ways = Self {
            src: src.to_owned(),
            dst: dst.to_owned(),
            protocol: "icmp".to_owned(),
            reply: false,
            cold: false,
            during: false,
            ipv6: false,
        };
        for word in words {
            match word {
                "icmp" | "tcp" | "udp" => word.clone_into(&mut ways.protocol),
                "reply" => ways.reply = true,
                "cold" => ways.cold = true,
                "during" => ways.during = true,
                "ipv6" => ways.ipv6 = true,
                _ => anyhow::bail!(
                    "`{word}` is no word of a variant: icmp, tcp, udp, reply, cold, during, ipv6"
                ),
            }
        }
        Ok(ways)
    }

    /// Who begins.
    #[must_use]
    pub fn client(&self) -> &str {
        if self.reply { &self.dst } else { &self.src }
    }

    /// Who answers.
    #[must_use]
    pub fn server(&self) -> &str {
        if self.reply { &self.src } else { &self.dst }
    }
}
