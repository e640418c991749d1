//! The Service that a rule is for, from the comments and names of chains that kube-proxy writes.

/// A Service as `NAMESPACE/NAME`, and its port if that has a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) service: String,
    pub(super) port: Option<String>,
}

/// The Service, by the table, the chains that led to a rule and the comments on the way, the rule's own last.
pub(super) fn named<'a>(
    table: &str,
    chains: &[&str],
    comments: impl DoubleEndedIterator<Item = &'a str>,
) -> Option<Named> {
    if let Some(named) = chains.iter().rev().find_map(|chain| of_chain(chain)) {
        return Some(named);
    }
    // Comments of others may look like a name too.
    let of_kube_proxy = table == "kube-proxy" || chains.iter().any(|chain| chain.starts_with("KUBE-"));
    of_kube_proxy.then(|| comments.rev().find_map(of_comment)).flatten()
}

/// `service-ULMVA6XW-ns1/svc1/tcp/p80`, `endpoint-5OJB2KTY-ns1/svc1/tcp/p80__10.180.0.1/80`: nftables
fn of_chain(chain: &str) -> Option<Named> {
    let rest = ["service-", "endpoint-", "external-", "firewall-"]
        .iter()
        .find_map(|beginning| chain.strip_prefix(beginning))?;
    let (hash, rest) = rest.split_once('-')?;
    if hash.len() != 8 || !hash.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()) {
        return None;
    }
    let mut parts = rest.split("__").next()?.split('/');
    let (namespace, name, _protocol, port) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    is_label(namespace).then_some(())?;
    is_label(name).then_some(())?;
    // Names that are too long for the kernel end in dots.
    let port = (is_label(port)).then(|| port.to_owned());
    Some(Named { service: format!("{namespace}/{name}"), port })
}

/// `default/web:http cluster IP`, `default/web`, `masquerade traffic for default/web:http external destinations`
fn of_comment(comment: &str) -> Option<Named> {
    comment.split_whitespace().find_map(|word| {
        let (namespace, rest) = word.split_once('/')?;
        let (name, port) = rest.split_once(':').map_or((rest, None), |(name, port)| (name, Some(port)));
        let is_name = is_label(namespace) && is_label(name) && port.is_none_or(is_label);
        is_name.then(|| Named { service: format!("{namespace}/{name}"), port: port.map(ToOwned::to_owned) })
    })
}

/// Whether it can be a Kubernetes name: a DNS label.
fn is_label(text: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inside)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(named: Option<Named>) -> Option<(String, Option<String>)> {
        named.map(|named| (named.service, named.port))
    }

    fn name(service: &str, port: Option<&str>) -> Option<(String, Option<String>)> {
        Some((service.to_owned(), port.map(ToOwned::to_owned)))
    }

    #[test]
    fn comments_of_kube_proxy_name_services() {
        for (comment, expected) in [
            ("default/web:http cluster IP", name("default/web", Some("http"))),
            ("default/web:http", name("default/web", Some("http"))),
            ("default/web", name("default/web", None)),
            ("default/web -> 10.42.1.10:8080", name("default/web", None)),
            (
                "masquerade traffic for kube-system/dns:dns-tcp external destinations",
                name("kube-system/dns", Some("dns-tcp")),
            ),
            ("default/empty:http has no endpoints", name("default/empty", Some("http"))),
            ("kubernetes service portals", None),
            ("10.42.0.0/16 -> 10.42.0.1", None),
            ("Default/Web", None),
            ("", None),
        ] {
            assert_eq!(
                told(named("nat", &["KUBE-SERVICES"], std::iter::once(comment))),
                expected,
                "{comment}"
            );
        }
    }

    #[test]
    fn a_foreign_comment_is_no_service() {
        assert_eq!(named("nat", &["POSTROUTING", "MINE"], std::iter::once("default/web:http")), None);
    }

    #[test]
    fn the_nearest_comment_counts() {
        let comments = ["default/other cluster IP", "default/web:http", "no name"];
        assert_eq!(
            told(named("nat", &["KUBE-SERVICES"], comments.into_iter())),
            name("default/web", Some("http"))
        );
    }

    #[test]
    fn chains_of_kube_proxys_nftables_name_services() {
        for (chain, expected) in [
            ("service-ULMVA6XW-ns1/svc1/tcp/p80", name("ns1/svc1", Some("p80"))),
            ("external-ULMVA6XW-ns1/svc1/tcp/", name("ns1/svc1", None)),
            ("endpoint-5OJB2KTY-ns1/svc1/udp/dns__10.180.0.1/53", name("ns1/svc1", Some("dns"))),
            ("endpoint-5OJB2KTY-ns1/svc1/udp/__fd00.10.180..1/53", name("ns1/svc1", None)),
            ("service-endpoints-check", None),
            ("services", None),
            ("service-ULMVA6XW-NS/svc1/tcp/p80", None),
        ] {
            assert_eq!(told(named("kube-proxy", &[chain], std::iter::empty())), expected, "{chain}");
        }
    }
}
