//! Parses single facts: a keyword, and if it takes one, a comparison and a value.

use wildmatch::WildMatch;

use super::ast::{EndpointPattern, Fact, Predicate, Row, Service, Side};
use super::lexer::Kind;
use super::parse::Parser;
use super::sequence::{Element, Sequence};
use super::vocabulary::{ACTIONS, list, protocol, suggestion, value};
use crate::syntax::SyntaxError;
use podtrace_path::{Direction, NatKind, Verdict};
use podtrace_protocol::inventory::{Endpoint, Port};

impl Parser<'_> {
    /// Parses a fact, which starts with a keyword.
    pub(super) fn fact(&mut self) -> Result<Fact, SyntaxError> {
        let start = self.start();
        let Kind::Word(word) = self.peek().clone() else {
            return Err(self.error("expected a condition"));
        };
        if let Ok(verdict) = value::<Verdict>(&word) {
            return Ok(self.shorthand(Predicate::Verdict(verdict), false));
        }
        if let Ok(direction) = value::<Direction>(&word) {
            return Ok(self.shorthand(Predicate::Direction(direction), false));
        }
        match word.as_str() {
            "encapsulated" => return Ok(self.shorthand(Predicate::Encapsulated, false)),
            "no-nat" => return Ok(self.shorthand(Predicate::Nat(None), true)),
            _ => {}
        }
        let (predicate, negated) = self.comparison_fact(&word)?;
        Ok(Fact { predicate, negated, text: self.since(start) })
    }

    fn shorthand(&mut self, predicate: Predicate, negated: bool) -> Fact {
        Fact { predicate, negated, text: self.word() }
    }

    /// A keyword with its comparison and value; whether the comparison is `!=`.
    fn comparison_fact(&mut self, word: &str) -> Result<(Predicate, bool), SyntaxError> {
        let mut negated = false;
        let predicate = match word {
            "verdict" => {
                negated = self.named(word)?;
                Predicate::Verdict(self.one_of("verdict")?)
            }
            "from" | "to" => {
                negated = self.named(word)?;
                let side = if word == "from" { Side::From } else { Side::To };
                Predicate::End(side, self.value("an endpoint, such as default/pod1 or 10.42.0.10", who)?)
            }
            "proto" => {
                negated = self.named(word)?;
                let protocol = self.value("a protocol, such as icmp", |name| {
                    protocol(name).map_err(|names| no_such("protocol", name, names))
                })?;
                Predicate::Protocol(protocol)
            }
            "direction" => {
                negated = self.named(word)?;
                Predicate::Direction(self.one_of("direction")?)
            }
            "devices" => {
                negated = self.named(word)?;
                Predicate::Row(Row::Devices, self.sequence("a device's name, such as cni0 or veth*", glob)?)
            }
            "nodes" => {
                negated = self.named(word)?;
                Predicate::Row(Row::Nodes, self.sequence("a node's name", glob)?)
            }
            "actions" => {
                negated = self.named(word)?;
                Predicate::Row(Row::Actions, self.sequence("an action, such as pod-egress", action)?)
            }
            "via" => {
                self.word();
                Predicate::Via(self.value("a device or node, such as cni0", glob)?)
            }
            "nat" => {
                self.word();
                if matches!(self.peek(), Kind::Sign(_)) {
                    negated = self.equality(word)?;
                    Predicate::Nat(Some(self.one_of::<NatKind>("kind of translation")?))
                } else {
                    Predicate::Nat(None)
                }
            }
            "drop" => {
                negated = self.named(word)?;
                Predicate::Drop(self.value("a reason, such as NETFILTER_DROP", glob)?)
            }
            "hops" => {
                self.word();
                let comparison = self.comparison(word)?;
                Predicate::Hops(comparison, self.number(word)?)
            }
            "max-hop-latency" => {
                self.word();
                let comparison = self.comparison(word)?;
                Predicate::HopLatency(comparison, self.time()?)
            }
            "duration" => {
                self.word();
                let comparison = self.comparison(word)?;
                Predicate::Duration(comparison, self.time()?)
            }
            "confidence" => {
                self.word();
                let comparison = self.comparison(word)?;
                Predicate::Confidence(comparison, self.share(word, false)?)
            }
            _ => return Err(self.unknown(word)),
        };
        Ok((predicate, negated))
    }

    /// Goes past a word and its `==` or `!=`.
    fn named(&mut self, word: &str) -> Result<bool, SyntaxError> {
        self.word();
        self.equality(word)
    }

    /// A name from the model.
    fn one_of<T: serde::de::DeserializeOwned>(&mut self, what: &str) -> Result<T, SyntaxError> {
        let names = value::<T>("").err().unwrap_or_default();
        self.value(&list(names), |name| value(name).map_err(|names| no_such(what, name, names)))
    }

    /// A time, in nanoseconds.
    fn time(&mut self) -> Result<i64, SyntaxError> {
        self.value("a time, such as 1ms or 250us", |word| {
            let time = word.parse::<jiff::SignedDuration>().ok();
            let time = time.and_then(|time| i64::try_from(time.as_nanos()).ok());
            let time = time.filter(|time| *time >= 0);
            time.ok_or_else(|| format!("`{word}` is not a time such as 1ms, 250us or 1.5s"))
        })
    }

    /// Names with `>` between them.
    fn sequence(
        &mut self,
        expected: &str,
        name: impl Fn(&str) -> Result<WildMatch, String>,
    ) -> Result<Sequence, SyntaxError> {
        let mut elements = Vec::new();
        loop {
            elements.push(self.value(expected, |word| match word {
                ".." | "..." | "…" => Ok(Element::Gap),
                word => name(word).map(Element::Name),
            })?);
            if !self.eat_arrow() {
                return Ok(Sequence::new(elements));
            }
        }
    }
}

#[expect(clippy::unnecessary_wraps, reason = "stands where other words can be wrong")]
fn glob(word: &str) -> Result<WildMatch, String> {
    Ok(WildMatch::new(word))
}

fn action(word: &str) -> Result<WildMatch, String> {
    let glob = WildMatch::new(word);
    let names = || ACTIONS.iter().map(|(name, _)| *name);
    if names().any(|name| glob.matches(name)) {
        return Ok(glob);
    }
    let names: Vec<_> = names().collect();
    Err(no_such("action", word, &names))
}

fn who(text: &str) -> Result<EndpointPattern, String> {
    if text.contains(['*', '?']) && !text.starts_with("svc/") && !text.starts_with("node/") {
        return Ok(match text.split_once('/') {
            Some((namespace, name)) => EndpointPattern::Pod {
                namespace: Some(WildMatch::new(namespace)),
                name: WildMatch::new(name),
            },
            None => EndpointPattern::Pod { namespace: None, name: WildMatch::new(text) },
        });
    }
    Ok(match text.parse::<Endpoint>().map_err(|error| error.to_string())? {
        Endpoint::Any => EndpointPattern::Anyone,
        Endpoint::Pod { namespace, name } => EndpointPattern::Pod {
            namespace: namespace.as_deref().map(WildMatch::new),
            name: WildMatch::new(&name),
        },
        Endpoint::Node { name } => EndpointPattern::Node(name),
        Endpoint::Address { ip, port } => EndpointPattern::Address { ip, port },
        Endpoint::Service { port: Some(Port::Name(port)), .. } => {
            return Err(format!("`{text}` names a port: write its number in place of {port}"));
        }
        Endpoint::Workload { name, .. } => {
            return Err(format!(
                "`{text}` is no single pod: write a pattern of its pods' names, such as `{name}-*`"
            ));
        }
        Endpoint::Network(_) | Endpoint::Labels { .. } | Endpoint::Several(_) => {
            return Err(format!(
                "`{text}` is no single endpoint: use a pod, svc/NAME, node/NAME or an address"
            ));
        }
        Endpoint::Service { namespace, name, port } => EndpointPattern::Service(Service {
            namespace,
            name,
            port: port.and_then(|port| match port {
                Port::Number(number) => Some(number),
                Port::Name(_) => None,
            }),
            addresses: Vec::new(),
            pods: Vec::new(),
        }),
    })
}

fn no_such(what: &str, word: &str, names: &[&str]) -> String {
    let likely = suggestion(word, names.iter().copied());
    if likely.is_empty() {
        format!("unknown {what} `{word}`: expected {}", list(names))
    } else {
        format!("unknown {what} `{word}`{likely}")
    }
}
