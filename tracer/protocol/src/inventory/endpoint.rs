//! What a user types for one end of the traffic.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV6};
use std::str::FromStr;

use super::check::is_name;

/// One end of the traffic, as typed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// Whoever.
    Any,
    /// `[NS/]POD`.
    Pod {
        /// Namespace; `None` means the default one.
        namespace: Option<String>,
        /// Name.
        name: String,
    },
    /// `svc/[NS/]NAME[:PORT]`.
    Service {
        /// Namespace; `None` means the default one.
        namespace: Option<String>,
        /// Name.
        name: String,
        /// Port at the cluster address; `None` means all.
        port: Option<u16>,
    },
    /// `node/NAME`.
    Node {
        /// Name.
        name: String,
    },
    /// `IP[:PORT]`, `[IPV6]:PORT`.
    Address {
        /// Address; never an IPv4 one mapped into IPv6.
        ip: IpAddr,
        /// Port; `None` means all.
        port: Option<u16>,
    },
}

/// What was typed is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}; an endpoint is [NS/]POD, svc/[NS/]NAME[:PORT], node/NAME, IP[:PORT], [IPV6]:PORT or any")]
pub struct InvalidEndpoint {
    what: String,
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map_err(|what| InvalidEndpoint { what })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let qualify = |namespace: &Option<String>| {
            namespace.as_ref().map_or_else(String::new, |namespace| format!("{namespace}/"))
        };
        match self {
            Self::Any => f.write_str("any"),
            Self::Pod { namespace, name } => write!(f, "{}{name}", qualify(namespace)),
            Self::Service { namespace, name, port: None } => write!(f, "svc/{}{name}", qualify(namespace)),
            Self::Service { namespace, name, port: Some(port) } => {
                write!(f, "svc/{}{name}:{port}", qualify(namespace))
            }
            Self::Node { name } => write!(f, "node/{name}"),
            Self::Address { ip, port: None } => write!(f, "{ip}"),
            Self::Address { ip: IpAddr::V6(ip), port: Some(port) } => write!(f, "[{ip}]:{port}"),
            Self::Address { ip, port: Some(port) } => write!(f, "{ip}:{port}"),
        }
    }
}

fn parse(text: &str) -> Result<Endpoint, String> {
    match text {
        "" => return Err("an endpoint is empty".to_owned()),
        "any" => return Ok(Endpoint::Any),
        _ => {}
    }
    if let Some(rest) = text.strip_prefix("svc/") {
        let (name, port) = match rest.split_once(':') {
            Some((name, port)) => (name, Some(parse_port(port)?)),
            None => (rest, None),
        };
        let (namespace, name) = qualified(name, text)?;
        return Ok(Endpoint::Service { namespace, name, port });
    }
    if let Some(rest) = text.strip_prefix("node/") {
        return Ok(Endpoint::Node { name: name(rest, text)? });
    }
    if let Some(address) = address(text)? {
        return Ok(address);
    }
    if let Some((pod, port)) = text.split_once(':') {
        return Err(format!(
            "{text:?} names a port, which pods and nodes do not have: write {pod:?} and --port {port}"
        ));
    }
    let (namespace, name) = qualified(text, text)?;
    Ok(Endpoint::Pod { namespace, name })
}

/// An address with or without a port; `None` if the text does not look like one.
fn address(text: &str) -> Result<Option<Endpoint>, String> {
    let found = |ip: IpAddr, port| Ok(Some(Endpoint::Address { ip: ip.to_canonical(), port }));
    if text.contains('%') {
        return Err(format!("{text:?} has a zone, which means nothing on another node: leave it out"));
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return found(ip, None);
    }
    if let Some(rest) = text.strip_prefix('[') {
        if let Some(Ok(ip)) = rest.strip_suffix(']').map(str::parse::<Ipv6Addr>) {
            return found(ip.into(), None);
        }
        return match text.parse::<SocketAddrV6>() {
            Ok(address) if address.port() != 0 => found((*address.ip()).into(), Some(address.port())),
            _ => Err(format!("{text:?} is no IPv6 address with a port")),
        };
    }
    if let Some((ip, port)) = text.split_once(':')
        && let Ok(ip) = ip.parse::<Ipv4Addr>()
    {
        return found(ip.into(), Some(parse_port(port)?));
    }
    let host = text.split_once(':').map_or(text, |(host, _)| host);
    let like_v4 = host.contains('.') && host.chars().all(|c| c.is_ascii_digit() || c == '.');
    let like_v6 =
        text.matches(':').count() > 1 && text.chars().all(|c| c.is_ascii_hexdigit() || ":.".contains(c));
    if like_v4 || like_v6 { Err(format!("{text:?} is no IP address")) } else { Ok(None) }
}

fn parse_port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port) if port != 0 && text.bytes().all(|b| b.is_ascii_digit()) => Ok(port),
        _ => Err(format!("{text:?} is no port: it is a number from 1 to 65535")),
    }
}

fn qualified(text: &str, whole: &str) -> Result<(Option<String>, String), String> {
    match text.split_once('/') {
        Some((namespace, rest)) => Ok((Some(name(namespace, whole)?), name(rest, whole)?)),
        None => Ok((None, name(text, whole)?)),
    }
}

fn name(text: &str, whole: &str) -> Result<String, String> {
    if is_name(text) { Ok(text.to_owned()) } else { Err(format!("{whole:?} holds no valid name: {text:?}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(namespace: Option<&str>, name: &str) -> Endpoint {
        Endpoint::Pod { namespace: namespace.map(str::to_owned), name: name.to_owned() }
    }

    fn service(namespace: Option<&str>, name: &str, port: Option<u16>) -> Endpoint {
        Endpoint::Service { namespace: namespace.map(str::to_owned), name: name.to_owned(), port }
    }

    fn address(ip: &str, port: Option<u16>) -> Endpoint {
        Endpoint::Address { ip: ip.parse().unwrap(), port }
    }

    #[test]
    fn every_form_is_understood() {
        for (text, endpoint) in [
            ("any", Endpoint::Any),
            ("pod1", pod(None, "pod1")),
            ("shop/web-6d8c4cb4d-x2x7k", pod(Some("shop"), "web-6d8c4cb4d-x2x7k")),
            ("default/any", pod(Some("default"), "any")),
            ("web.v2", pod(None, "web.v2")),
            ("1234", pod(None, "1234")),
            ("svc/web", service(None, "web", None)),
            ("svc/web:80", service(None, "web", Some(80))),
            ("svc/shop/web:80", service(Some("shop"), "web", Some(80))),
            ("node/node1", Endpoint::Node { name: "node1".to_owned() }),
            ("10.42.0.10", address("10.42.0.10", None)),
            ("10.42.0.10:80", address("10.42.0.10", Some(80))),
            ("fd00::1", address("fd00::1", None)),
            ("::", address("::", None)),
            ("[fd00::1]", address("fd00::1", None)),
            ("[fd00::1]:80", address("fd00::1", Some(80))),
            ("::ffff:10.42.0.10", address("10.42.0.10", None)),
        ] {
            assert_eq!(text.parse(), Ok(endpoint.clone()), "{text}");
            assert_eq!(endpoint.to_string().parse(), Ok(endpoint), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_its_reason() {
        for (text, part) in [
            ("", "empty"),
            ("a/b/c", "no valid name: \"b/c\""),
            ("/pod1", "no valid name: \"\""),
            ("pod1/", "no valid name: \"\""),
            ("svc/", "no valid name"),
            ("svc/a/b/c", "no valid name"),
            ("svc/web:http", "\"http\" is no port"),
            ("svc/web:0", "\"0\" is no port"),
            ("svc/web:+80", "\"+80\" is no port"),
            ("node/", "no valid name"),
            ("node/a/b", "no valid name"),
            ("pod1:80", "write \"pod1\" and --port 80"),
            ("10.42.0.10:", "\"\" is no port"),
            ("10.42.0.10:65536", "\"65536\" is no port"),
            ("10.42.0.300", "is no IP address"),
            ("10.42.0", "is no IP address"),
            ("fd00:::1", "is no IP address"),
            ("[fd00::1]:x", "no IPv6 address with a port"),
            ("[fd00::1]:0", "no IPv6 address with a port"),
            ("fe80::1%eth0", "zone"),
            ("-pod", "no valid name"),
            ("pod\x1b[2J", "no valid name: \"pod\\u{1b}[2J\""),
        ] {
            let error = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }
}
