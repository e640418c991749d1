//! The syntax of endpoints: what a user types for one end of the traffic.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV6};
use std::str::FromStr;

use super::check::is_name;

/// One end of the traffic, as typed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `any`: no restriction.
    Any,
    /// `[NS/]POD`.
    Pod {
        /// Namespace; `None` for the default one.
        namespace: Option<String>,
        /// Name.
        name: String,
    },
    /// `svc/[NS/]NAME[:PORT]`.
    Service {
        /// Namespace; `None` for the default one.
        namespace: Option<String>,
        /// Name.
        name: String,
        /// Port at the cluster IP; `None` for all.
        port: Option<u16>,
    },
    /// `node/NAME`.
    Node {
        /// Name.
        name: String,
    },
    /// `IP[:PORT]`, `[IPV6]:PORT`.
    Address {
        /// Address; IPv4 mapped into IPv6 is converted to IPv4.
        ip: IpAddr,
        /// Port; `None` for all.
        port: Option<u16>,
    },
}

/// The text is not an endpoint.
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
        "" => return Err("the endpoint is empty".to_owned()),
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
            "{text:?} has a port, but only Services and addresses take one: write {pod:?} and --port {port}"
        ));
    }
    let (namespace, name) = qualified(text, text)?;
    Ok(Endpoint::Pod { namespace, name })
}

/// An address with or without a port; `None` if the text does not look like one.
fn address(text: &str) -> Result<Option<Endpoint>, String> {
    let found = |ip: IpAddr, port| Ok(Some(Endpoint::Address { ip: ip.to_canonical(), port }));
    if text.contains('%') {
        return Err(format!("{text:?} has a zone, which is only valid on one node: leave it out"));
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
            _ => Err(format!("{text:?} is not an IPv6 address with a port")),
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
    if like_v4 || like_v6 { Err(format!("{text:?} is not an IP address")) } else { Ok(None) }
}

fn parse_port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port) if port != 0 && text.bytes().all(|b| b.is_ascii_digit()) => Ok(port),
        _ => Err(format!("{text:?} is not a port: use a number from 1 to 65535")),
    }
}

fn qualified(text: &str, whole: &str) -> Result<(Option<String>, String), String> {
    match text.split_once('/') {
        Some((namespace, rest)) => Ok((Some(name(namespace, whole)?), name(rest, whole)?)),
        None => Ok((None, name(text, whole)?)),
    }
}

fn name(text: &str, whole: &str) -> Result<String, String> {
    if is_name(text) { Ok(text.to_owned()) } else { Err(format!("invalid name {text:?} in {whole:?}")) }
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
    fn every_form_is_parsed() {
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
    fn errors_give_the_reason() {
        for (text, part) in [
            ("", "empty"),
            ("a/b/c", "invalid name \"b/c\""),
            ("/pod1", "invalid name \"\""),
            ("pod1/", "invalid name \"\""),
            ("svc/", "invalid name"),
            ("svc/a/b/c", "invalid name"),
            ("svc/web:http", "\"http\" is not a port"),
            ("svc/web:0", "\"0\" is not a port"),
            ("svc/web:+80", "\"+80\" is not a port"),
            ("node/", "invalid name"),
            ("node/a/b", "invalid name"),
            ("pod1:80", "write \"pod1\" and --port 80"),
            ("10.42.0.10:", "\"\" is not a port"),
            ("10.42.0.10:65536", "\"65536\" is not a port"),
            ("10.42.0.300", "is not an IP address"),
            ("10.42.0", "is not an IP address"),
            ("fd00:::1", "is not an IP address"),
            ("[fd00::1]:x", "not an IPv6 address with a port"),
            ("[fd00::1]:0", "not an IPv6 address with a port"),
            ("fe80::1%eth0", "zone"),
            ("-pod", "invalid name"),
            ("pod\x1b[2J", "invalid name \"pod\\u{1b}[2J\""),
        ] {
            let error = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }
}
