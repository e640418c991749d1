//! The syntax of endpoints: what a user types for one end of the traffic.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV6};
use std::str::FromStr;

use ipnet::IpNet;

use super::check::is_name;
use super::selector::Selector;
use super::workload::Workload;

/// One end of the traffic, as typed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `any`: no restriction.
    Any,
    /// `[pod/][NS/]POD`.
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
        port: Option<Port>,
    },
    /// `deploy/[NS/]NAME`, also of other kinds.
    Workload {
        /// Kind.
        kind: Workload,
        /// Namespace; `None` for the default one.
        namespace: Option<String>,
        /// Name.
        name: String,
    },
    /// Pods with these labels: `-l SELECTOR`.
    Labels {
        /// Whether in all namespaces; else in the default one.
        everywhere: bool,
        /// What their labels match.
        selector: Selector,
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
    /// `CIDR`.
    Network(IpNet),
    /// All of these.
    Several(Vec<Self>),
}

/// A Service's port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Port {
    /// By number.
    Number(u16),
    /// By name.
    Name(String),
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// The text is not an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what}; an endpoint is [NS/]POD, svc/[NS/]NAME[:PORT], deploy|ds|sts|job/[NS/]NAME, node/NAME, IP[:PORT], \
     [IPV6]:PORT, CIDR or any"
)]
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
            // Without the kind, these would be something else.
            Self::Pod { namespace: Some(namespace), name } if is_kind(namespace) => {
                write!(f, "pod/{namespace}/{name}")
            }
            Self::Pod { namespace: None, name } if name == "any" => write!(f, "pod/{name}"),
            Self::Pod { namespace, name } => write!(f, "{}{name}", qualify(namespace)),
            Self::Service { namespace, name, port: None } => write!(f, "svc/{}{name}", qualify(namespace)),
            Self::Service { namespace, name, port: Some(port) } => {
                write!(f, "svc/{}{name}:{port}", qualify(namespace))
            }
            Self::Workload { kind, namespace, name } => {
                write!(f, "{}/{}{name}", kind.short(), qualify(namespace))
            }
            Self::Labels { everywhere: false, selector } => write!(f, "pods with {selector}"),
            Self::Labels { everywhere: true, selector } => {
                write!(f, "pods with {selector} in all namespaces")
            }
            Self::Node { name } => write!(f, "node/{name}"),
            Self::Network(network) => write!(f, "{network}"),
            Self::Several(endpoints) => {
                let all: Vec<_> = endpoints.iter().map(ToString::to_string).collect();
                f.write_str(&all.join(", "))
            }
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
    if let Some((kind, rest)) = text.split_once('/')
        && let Some(kind) = Kind::named(kind)
    {
        return kind.endpoint(rest, text);
    }
    if let Some(network) = network(text)? {
        return Ok(Endpoint::Network(network));
    }
    if let Some(address) = address(text)? {
        return Ok(address);
    }
    if let Some((pod, port)) = text.split_once(':') {
        return Err(no_port(text, pod, port));
    }
    let (namespace, name) = qualified(text, text)?;
    Ok(Endpoint::Pod { namespace, name })
}

/// What stands before the first slash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Pod,
    Service,
    Node,
    Workload(Workload),
}

fn is_kind(text: &str) -> bool {
    Kind::named(text).is_some()
}

impl Kind {
    /// As kubectl has them.
    fn named(text: &str) -> Option<Self> {
        Some(match text.to_ascii_lowercase().as_str() {
            "po" | "pod" | "pods" => Self::Pod,
            "svc" | "service" | "services" => Self::Service,
            "no" | "node" | "nodes" => Self::Node,
            other => Self::Workload(Workload::named(other)?),
        })
    }

    fn endpoint(self, rest: &str, whole: &str) -> Result<Endpoint, String> {
        Ok(match self {
            Self::Node => Endpoint::Node { name: name(rest, whole)? },
            Self::Service => {
                let (name, port) = match rest.split_once(':') {
                    Some((name, port)) => (name, Some(service_port(port)?)),
                    None => (rest, None),
                };
                let (namespace, name) = qualified(name, whole)?;
                Endpoint::Service { namespace, name, port }
            }
            Self::Pod | Self::Workload(_) => {
                if let Some((name, port)) = rest.split_once(':') {
                    let named = whole.strip_suffix(&format!(":{port}")).unwrap_or(name);
                    return Err(no_port(whole, named, port));
                }
                let (namespace, name) = qualified(rest, whole)?;
                match self {
                    Self::Workload(kind) => Endpoint::Workload { kind, namespace, name },
                    _ => Endpoint::Pod { namespace, name },
                }
            }
        })
    }
}

fn no_port(text: &str, name: &str, port: &str) -> String {
    format!("{text:?} has a port, but only Services and addresses take one: write {name:?} and --port {port}")
}

/// A number, or a name: up to 15 letters, digits and `-`, at least one a letter.
fn service_port(text: &str) -> Result<Port, String> {
    let is_name = (1..=15).contains(&text.len())
        && text.bytes().any(|b| b.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if is_name { Ok(Port::Name(text.to_owned())) } else { parse_port(text).map(Port::Number) }
}

/// A network; `None` if the text does not look like one. Host bits are cut off, as most tools do.
fn network(text: &str) -> Result<Option<IpNet>, String> {
    let Some((address, prefix)) = text.split_once('/') else { return Ok(None) };
    if address.parse::<IpAddr>().is_err() {
        return Ok(None);
    }
    match text.parse::<IpNet>() {
        Ok(network) => Ok(Some(network.trunc())),
        Err(_) => Err(format!("{text:?} is not a network: {prefix:?} is no prefix length for {address}")),
    }
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
        _ => Err(format!(
            "{text:?} is not a port: use a number from 1 to 65535, or the name of a Service's port"
        )),
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
        let port = port.map(Port::Number);
        Endpoint::Service { namespace: namespace.map(str::to_owned), name: name.to_owned(), port }
    }

    fn workload(kind: Workload, namespace: Option<&str>, name: &str) -> Endpoint {
        Endpoint::Workload { kind, namespace: namespace.map(str::to_owned), name: name.to_owned() }
    }

    fn net(text: &str) -> Endpoint {
        Endpoint::Network(text.parse().unwrap())
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
            ("pod/pod1", pod(None, "pod1")),
            ("po/any", pod(None, "any")),
            ("pods/shop/web-0", pod(Some("shop"), "web-0")),
            ("pod/job/web-0", pod(Some("job"), "web-0")),
            ("service/web", service(None, "web", None)),
            ("services/shop/web:80", service(Some("shop"), "web", Some(80))),
            (
                "svc/web:http",
                Endpoint::Service {
                    namespace: None,
                    name: "web".to_owned(),
                    port: Some(Port::Name("http".to_owned())),
                },
            ),
            ("deploy/web", workload(Workload::Deployment, None, "web")),
            ("deployment/shop/web", workload(Workload::Deployment, Some("shop"), "web")),
            ("ds/proxy", workload(Workload::DaemonSet, None, "proxy")),
            ("daemonset/proxy", workload(Workload::DaemonSet, None, "proxy")),
            ("sts/db", workload(Workload::StatefulSet, None, "db")),
            ("statefulset/db", workload(Workload::StatefulSet, None, "db")),
            ("job/load", workload(Workload::Job, None, "load")),
            ("rs/web-6d8c4cb4d", workload(Workload::ReplicaSet, None, "web-6d8c4cb4d")),
            ("no/node1", Endpoint::Node { name: "node1".to_owned() }),
            ("10.42.0.0/16", net("10.42.0.0/16")),
            ("10.42.7.7/16", net("10.42.0.0/16")),
            ("fd00::/8", net("fd00::/8")),
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
            ("svc/web:a_b", "\"a_b\" is not a port"),
            ("svc/web:a-name-too-long-for-a-port", "is not a port"),
            ("pod/a/b/c", "invalid name \"b/c\""),
            ("deploy/web:80", "write \"deploy/web\" and --port 80"),
            ("10.42.0.0/33", "\"33\" is no prefix length for 10.42.0.0"),
            ("10.42.0.0/x", "\"x\" is no prefix length"),
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
