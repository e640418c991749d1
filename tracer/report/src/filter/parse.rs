//! Parses pcap filters. `docs/filter.md` describes the grammar.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};

use super::ast::{Condition, Expression, Filter, Protocol, Side, Test};
use super::lexer::{Kind, Token, tokens};
use crate::syntax::SyntaxError;

/// Maximum number of conditions: one bit each.
const MOST_CONDITIONS: usize = 64;
/// Maximum nesting depth.
const DEEPEST: usize = 64;

const PROTOCOLS: [(&str, Protocol); 7] = [
    ("ip", Protocol::V4),
    ("ip6", Protocol::V6),
    ("icmp", Protocol::Number(1)),
    ("tcp", Protocol::Number(6)),
    ("udp", Protocol::Number(17)),
    ("icmp6", Protocol::Number(58)),
    ("sctp", Protocol::Number(132)),
];

const SUPPORTED: &str = "supported are host, net, port, portrange and proto, with src or dst before them; ip, ip6, tcp, \
                         udp, icmp, icmp6, sctp; less and greater; and, or, not and parentheses";

/// Words that begin a condition, besides protocols.
const QUALIFIERS: [&str; 10] =
    ["host", "net", "port", "portrange", "proto", "src", "dst", "less", "greater", "not"];

/// Whether an argument of a command line begins a filter, as opposed to naming an endpoint.
#[must_use]
pub fn begins_filter(argument: &str) -> bool {
    argument.contains(char::is_whitespace)
        || argument.starts_with(['(', '!'])
        || QUALIFIERS.contains(&argument)
        || PROTOCOLS.iter().any(|(name, _)| *name == argument)
}

impl FromStr for Filter {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let tokens = tokens(text)?;
        let mut parser = Parser { text, tokens, at: 0, conditions: Vec::new(), latest: None, depth: 0 };
        // As in pcap, an expression of no words holds for all packets.
        let expression = match parser.kind() {
            Kind::End => None,
            _ => Some(parser.expression()?),
        };
        match parser.kind() {
            Kind::End => Ok(Self { text: text.to_owned(), expression, conditions: parser.conditions }),
            Kind::Right => Err(parser.error("unmatched `)`")),
            _ => Err(parser.error("expected `and` or `or` between two conditions")),
        }
    }
}

/// The qualifiers before a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Qualifiers {
    protocol: Option<Protocol>,
    side: Side,
    kind: ValueKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ValueKind {
    Host,
    Net,
    Port,
    PortRange,
    Proto,
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    at: usize,
    conditions: Vec<Condition>,
    /// Of the condition before: a value without any has the same.
    latest: Option<Qualifiers>,
    depth: usize,
}

impl Parser<'_> {
    fn token(&self) -> &Token {
        // The last token is the end, and is never passed.
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn kind(&self) -> &Kind {
        &self.token().kind
    }

    fn word(&self) -> Option<&str> {
        match self.kind() {
            Kind::Word(word) => Some(word),
            _ => None,
        }
    }

    fn error(&self, message: impl Into<String>) -> SyntaxError {
        SyntaxError::new(self.text, self.token().at.clone(), message)
    }

    fn takes(&mut self, word: &str) -> bool {
        let found = self.word() == Some(word);
        self.at += usize::from(found);
        found
    }

    /// `and` and `or` bind alike, from left to right, as in pcap.
    fn expression(&mut self) -> Result<Expression, SyntaxError> {
        let mut left = self.factor()?;
        loop {
            let join = match self.kind() {
                Kind::And => Expression::And,
                Kind::Or => Expression::Or,
                _ => return Ok(left),
            };
            self.at += 1;
            left = join(Box::new(left), Box::new(self.factor()?));
        }
    }

    fn factor(&mut self) -> Result<Expression, SyntaxError> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.error(format!("nested deeper than {DEEPEST} levels")));
        }
        let factor = match self.kind() {
            Kind::Not => {
                self.at += 1;
                Expression::Not(Box::new(self.factor()?))
            }
            Kind::Left => {
                let opened = self.token().at.clone();
                self.at += 1;
                let inside = self.expression()?;
                if *self.kind() != Kind::Right {
                    return Err(SyntaxError::new(self.text, opened, "unclosed `(`"));
                }
                self.at += 1;
                inside
            }
            Kind::Word(_) => self.condition()?,
            Kind::And | Kind::Or | Kind::Right | Kind::End => {
                return Err(self.error("expected a condition"));
            }
        };
        self.depth -= 1;
        Ok(factor)
    }

    fn condition(&mut self) -> Result<Expression, SyntaxError> {
        if self.conditions.len() == MOST_CONDITIONS {
            return Err(self.error(format!("more than {MOST_CONDITIONS} conditions")));
        }
        let condition = match self.word() {
            Some("less") => self.length(|bytes| 0..=bytes)?,
            Some("greater") => self.length(|bytes| bytes..=u32::MAX)?,
            _ => self.primitive()?,
        };
        self.conditions.push(condition);
        Ok(Expression::Holds(self.conditions.len() - 1))
    }

    fn length(
        &mut self,
        range: impl FnOnce(u32) -> std::ops::RangeInclusive<u32>,
    ) -> Result<Condition, SyntaxError> {
        self.at += 1;
        let bytes = self.word().and_then(|word| word.parse().ok());
        let bytes = bytes.ok_or_else(|| self.error("expected a number of bytes"))?;
        self.at += 1;
        Ok(Condition { protocol: None, side: Side::Either, test: Test::Length(range(bytes)) })
    }

    fn primitive(&mut self) -> Result<Condition, SyntaxError> {
        let begun = self.at;
        let protocol = PROTOCOLS.iter().find(|(name, _)| self.takes(name)).map(|(_, protocol)| *protocol);
        let side = self.side()?;
        let kind = self.value_kind();
        if protocol.is_some() && side.is_none() && kind.is_none() {
            self.latest = None;
            return Ok(Condition { protocol, side: Side::Either, test: Test::Anything });
        }
        let qualifiers = match (begun == self.at, self.latest) {
            (true, Some(latest)) => latest,
            (true, None) if self.is_address() => {
                Qualifiers { protocol, side: Side::Either, kind: ValueKind::Host }
            }
            (true, None) => {
                let word = self.word().unwrap_or_default();
                return Err(self.error(format!("`{word}` is not supported; {SUPPORTED}")));
            }
            (false, _) => Qualifiers {
                protocol,
                side: side.unwrap_or(Side::Either),
                kind: kind.unwrap_or(ValueKind::Host),
            },
        };
        let ports = matches!(qualifiers.kind, ValueKind::Port | ValueKind::PortRange);
        if ports && matches!(qualifiers.protocol, Some(Protocol::Number(1 | 58))) {
            return Err(self.error("ICMP has no ports"));
        }
        let condition = self.value(qualifiers)?;
        self.latest = Some(qualifiers);
        Ok(condition)
    }

    /// `src`, `dst`, `src or dst`, `src and dst`.
    fn side(&mut self) -> Result<Option<Side>, SyntaxError> {
        let (side, other) = if self.takes("src") {
            (Side::Source, "dst")
        } else if self.takes("dst") {
            (Side::Destination, "src")
        } else {
            return Ok(None);
        };
        let both = match self.kind() {
            Kind::And => Side::Both,
            Kind::Or => Side::Either,
            Kind::End => {
                return Err(self.error("expected an address, or a keyword such as host or port"));
            }
            _ => return Ok(Some(side)),
        };
        let next = self.tokens.get(self.at + 1).map(|token| &token.kind);
        if *next.unwrap_or(&Kind::End) == Kind::Word(other.to_owned()) {
            self.at += 2;
            return Ok(Some(both));
        }
        Err(self.error("expected an address, or a keyword such as host or port"))
    }

    fn value_kind(&mut self) -> Option<ValueKind> {
        let kind = match self.word()? {
            "host" => ValueKind::Host,
            "net" => ValueKind::Net,
            "port" => ValueKind::Port,
            "portrange" => ValueKind::PortRange,
            "proto" => ValueKind::Proto,
            _ => return None,
        };
        self.at += 1;
        Some(kind)
    }

    fn is_address(&self) -> bool {
        self.word().is_some_and(|word| word.parse::<IpAddr>().is_ok() || net(word).is_some())
    }

    fn value(&mut self, qualifiers: Qualifiers) -> Result<Condition, SyntaxError> {
        let Qualifiers { protocol, side, kind } = qualifiers;
        let word = self.word().unwrap_or_default().to_owned();
        let wanted = |what: &str| {
            if word.is_empty() { format!("expected {what}") } else { format!("`{word}` is not {what}") }
        };
        let test = match kind {
            ValueKind::Host => match (word.parse().map(Test::Host), net(&word)) {
                (Ok(host), _) => host,
                // `10.42.0.0/16` needs no word that says what it is.
                (Err(_), Some(net)) => Test::Net(net),
                (Err(_), None) => {
                    return Err(self.error(wanted("an address (for pods, use --from and --to)")));
                }
            },
            ValueKind::Net => {
                let net = net(&word).ok_or_else(|| self.error(wanted("a network such as 10.42.0.0/16")))?;
                Test::Net(net)
            }
            ValueKind::Port => {
                let port = word.parse().map_err(|_| self.error(wanted("a port number")))?;
                Test::Ports(port..=port)
            }
            ValueKind::PortRange => {
                let range = word.split_once('-').or(Some((&word, &word)));
                let range = range.and_then(|(low, high)| Some((low.parse().ok()?, high.parse().ok()?)));
                let (low, high) = range
                    .filter(|(low, high): &(u16, u16)| low <= high)
                    .ok_or_else(|| self.error(wanted("a port range such as 8000-8080")))?;
                Test::Ports(low..=high)
            }
            ValueKind::Proto => {
                let named = PROTOCOLS.iter().find(|(name, _)| *name == word).map(|(_, protocol)| *protocol);
                let number = named.or_else(|| word.parse().ok().map(Protocol::Number));
                let number = number.filter(|number| matches!(number, Protocol::Number(_)));
                let number = number.ok_or_else(|| self.error(wanted("a protocol name or number")))?;
                self.at += 1;
                // `ip proto 17` asks for both.
                let v6 = protocol == Some(Protocol::V6);
                let test = match protocol {
                    None => Test::Anything,
                    Some(_) => Test::Net(if v6 { everything_v6() } else { everything_v4() }),
                };
                return Ok(Condition { protocol: Some(number), side: Side::Either, test });
            }
        };
        self.at += 1;
        Ok(Condition { protocol, side, test })
    }
}

fn everything_v4() -> IpNet {
    IpNet::V4(Ipv4Net::default())
}

fn everything_v6() -> IpNet {
    IpNet::V6(ipnet::Ipv6Net::default())
}

/// `10.42.0.0/16`, `fd00::/8`, an address, or the first numbers of one: `10.42`.
fn net(word: &str) -> Option<IpNet> {
    if let Ok(net) = word.parse::<IpNet>() {
        return Some(net.trunc());
    }
    if let Ok(address) = word.parse::<IpAddr>() {
        return Some(address.into());
    }
    let numbers = word.split('.').map(|number| number.parse::<u8>().ok()).collect::<Option<Vec<_>>>()?;
    let mut octets = [0; 4];
    octets.get_mut(..numbers.len())?.copy_from_slice(&numbers);
    let prefix = u8::try_from(numbers.len() * 8).ok()?;
    Ipv4Net::new(Ipv4Addr::from(octets), prefix).ok().map(IpNet::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Filter {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    /// The expression with its conditions' numbers.
    fn shape(expression: &Expression) -> String {
        match expression {
            Expression::Holds(number) => number.to_string(),
            Expression::Not(other) => format!("!{}", shape(other)),
            Expression::And(one, other) => format!("({} & {})", shape(one), shape(other)),
            Expression::Or(one, other) => format!("({} | {})", shape(one), shape(other)),
        }
    }

    #[test]
    fn and_and_or_bind_alike_as_in_pcap() {
        for (text, expected) in [
            ("tcp or udp and port 53", "((0 | 1) & 2)"),
            ("tcp and (udp or port 53)", "(0 & (1 | 2))"),
            ("not tcp and ! udp || icmp", "((!0 & !1) | 2)"),
            ("not (tcp or not udp)", "!(0 | !1)"),
        ] {
            assert_eq!(shape(parse(text).expression.as_ref().unwrap()), expected, "{text}");
        }
        assert_eq!(parse("  ").expression, None);
    }

    #[test]
    fn conditions_are_what_pcap_means_by_them() {
        let condition = |protocol, side, test| Condition { protocol, side, test };
        let host = |text: &str| Test::Host(text.parse().unwrap());
        let net = |text: &str| Test::Net(text.parse().unwrap());
        let tcp = Some(Protocol::Number(6));
        for (text, expected) in [
            ("host 10.42.0.10", condition(None, Side::Either, host("10.42.0.10"))),
            ("10.42.0.10", condition(None, Side::Either, host("10.42.0.10"))),
            ("src 10.42.0.10", condition(None, Side::Source, host("10.42.0.10"))),
            ("ip6 dst host fd00::1", condition(Some(Protocol::V6), Side::Destination, host("fd00::1"))),
            ("src or dst host fd00::1", condition(None, Side::Either, host("fd00::1"))),
            ("net 10.42", condition(None, Side::Either, net("10.42.0.0/16"))),
            ("src net 10.42.7.9/16", condition(None, Side::Source, net("10.42.0.0/16"))),
            ("src and dst net fd00::/8", condition(None, Side::Both, net("fd00::/8"))),
            ("tcp dst port 80", condition(tcp, Side::Destination, Test::Ports(80..=80))),
            ("portrange 8000-8080", condition(None, Side::Either, Test::Ports(8000..=8080))),
            ("portrange 7", condition(None, Side::Either, Test::Ports(7..=7))),
            ("proto 6", condition(tcp, Side::Either, Test::Anything)),
            ("ip proto tcp", condition(tcp, Side::Either, net("0.0.0.0/0"))),
            ("tcp", condition(tcp, Side::Either, Test::Anything)),
            ("less 64", condition(None, Side::Either, Test::Length(0..=64))),
            ("greater 1000", condition(None, Side::Either, Test::Length(1000..=u32::MAX))),
        ] {
            assert_eq!(parse(text).conditions, [expected], "{text}");
        }
    }

    #[test]
    fn a_value_alone_is_like_the_one_before() {
        let filter = parse("tcp dst port 80 or 443 or (8080 and host 10.0.0.1 or 10.0.0.2)");
        assert_eq!(
            filter.conditions[1],
            Condition { test: Test::Ports(443..=443), ..filter.conditions[0].clone() }
        );
        assert_eq!(filter.conditions[2].test, Test::Ports(8080..=8080));
        assert_eq!(filter.conditions[4].test, Test::Host("10.0.0.2".parse().unwrap()));
    }

    #[test]
    fn what_is_not_understood_is_pointed_at() {
        for (text, expected) in [
            ("vlan 7", "column 1: `vlan` is not supported; supported are host, net, "),
            ("tcp port 80 or", "column 15: expected a condition"),
            ("port http", "column 6: `http` is not a port number"),
            ("port 70000", "column 6: `70000` is not a port number"),
            ("host pod1", "column 6: `pod1` is not an address (for pods, use --from and --to)"),
            ("net 10.42.0.0/40", "column 5: `10.42.0.0/40` is not a network"),
            ("portrange 9-3", "column 11: `9-3` is not a port range"),
            ("tcp[13] & 2 != 0", "column 1: packet bytes cannot be compared"),
            ("len > 7", "column 5: packet bytes cannot be compared"),
            ("(tcp or udp", "column 1: unclosed `(`"),
            ("tcp)", "column 4: unmatched `)`"),
            ("tcp udp", "column 5: expected `and` or `or` between"),
            ("icmp port 7", "column 11: ICMP has no ports"),
            ("src and host 10.0.0.1", "column 5: expected an address, or a keyword such as host or port"),
            ("src", "column 4: expected an address, or a keyword such as host or port"),
            ("greater than", "column 9: expected a number of bytes"),
            ("host", "column 5: expected an address (for pods, use --from and --to)"),
        ] {
            let error = text.parse::<Filter>().unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
        let deep = "(".repeat(5_000);
        assert!(deep.parse::<Filter>().unwrap_err().to_string().contains("nested deeper"));
        let long = vec!["tcp"; 65].join(" or ");
        assert!(long.parse::<Filter>().unwrap_err().to_string().contains("more than 64 conditions"));
    }
}
