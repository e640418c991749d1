//! Reads a static inventory from YAML. Every error is one line with the place in the file.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_saphyr::{DefaultMessageFormatter, Location, MessageFormatter as _, Spanned};

use super::check::{Fault, List, check};
use super::model::Inventory;
use podtrace_escape::escape;

/// Maximum number of characters quoted from a line.
const QUOTED: usize = 80;

/// Why an inventory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read the inventory {}: {source}", .file.display())]
    Read {
        /// Its path.
        file: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file is not an inventory, or contradicts itself.
    #[error("{}{at}: {what}", .file.display())]
    Content {
        /// Its path.
        file: PathBuf,
        /// Where in it.
        at: Place,
        /// What is wrong, in one line.
        what: String,
    },
}

/// A place in a file. It is displayed as `:LINE:COLUMN`, or as nothing if unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place(Option<(u64, u64)>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some((line, column)) => write!(f, ":{line}:{column}"),
            None => Ok(()),
        }
    }
}

impl From<Option<Location>> for Place {
    fn from(location: Option<Location>) -> Self {
        Self(location.filter(|at| *at != Location::UNKNOWN).map(|at| (at.line(), at.column())))
    }
}

/// Reads and checks the inventory in a file.
///
/// # Errors
/// If the file cannot be read or is wrong; the error names the file, line and column.
pub fn load(file: &Path) -> Result<Inventory, LoadError> {
    let text =
        std::fs::read_to_string(file).map_err(|source| LoadError::Read { file: file.to_owned(), source })?;
    parse(&text).map_err(|(at, what)| LoadError::Content { file: file.to_owned(), at, what })
}

/// Reads and checks an inventory.
///
/// # Errors
/// The place and a description in one line.
pub fn parse(text: &str) -> Result<Inventory, (Place, String)> {
    let inventory: Inventory = serde_saphyr::from_str(text).map_err(|error| {
        let error = error.without_snippet();
        let at = Place::from(error.location());
        let message = DefaultMessageFormatter.format_message(error);
        (at, format!("{}{}", escape(&message), quote(text, at)))
    })?;
    check(&inventory).map_err(|fault| (place(text, &fault), fault.what))?;
    Ok(inventory)
}

/// The wrong line, since not every parser message says what it is about.
fn quote(text: &str, at: Place) -> String {
    let line = at.0.and_then(|(line, _)| text.lines().nth(usize::try_from(line).ok()?.checked_sub(1)?));
    match line.map(str::trim) {
        None | Some("") => String::new(),
        Some(line) if line.chars().count() > QUOTED => {
            format!(", at `{}…`", escape(&line.chars().take(QUOTED).collect::<String>()))
        }
        Some(line) => format!(", at `{}`", escape(line)),
    }
}

/// The lists' entries without their content, to find out where each one begins.
#[derive(Deserialize)]
struct Places {
    nodes: Vec<Spanned<IgnoredAny>>,
    #[serde(default)]
    pods: Vec<Spanned<IgnoredAny>>,
    #[serde(default)]
    services: Vec<Spanned<IgnoredAny>>,
}

/// Where the wrong entry begins. This parses the text a second time, so that the model needs no places.
fn place(text: &str, fault: &Fault) -> Place {
    let Ok(Places { nodes, pods, services }) = serde_saphyr::from_str(text) else { return Place::default() };
    let list = match fault.list {
        List::Nodes => nodes,
        List::Pods => pods,
        List::Services => services,
    };
    list.get(fault.index).map(|entry| entry.referenced).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
nodes:
  - name: node1
    addresses: [192.168.56.11]
    run: {netns: /run/netns/node1}
  - name: node2
    addresses: [192.168.56.12, 'fd00:56::12']
    run: {command: [ssh, node2, sudo]}
pods:
  - {name: pod1, ips: [10.42.0.10], node: node1}
  - {namespace: shop, name: cart-0, ips: [10.42.1.10, 'fd00:42:1::10'], node: node2}
  - {namespace: shop, name: proxy-1, ips: [192.168.56.11], node: node1, host_network: true}
  - {namespace: shop, name: proxy-2, ips: [192.168.56.11], node: node1, host_network: true}
services:
  - namespace: shop
    name: cart
    cluster_ips: [10.96.0.20]
    ports: [{protocol: tcp, port: 80, target_port: 8080}]
    endpoints: [shop/cart-0]
";

    #[test]
    fn a_good_inventory_is_read_and_written_back_the_same() {
        let inventory = parse(GOOD).unwrap();
        assert_eq!(inventory.nodes.len(), 2);
        assert_eq!(inventory.pods[0].full_name(), "default/pod1");
        assert_eq!(inventory.services[0].ports[0].target_port, 8080);
        assert_eq!(parse(&serde_saphyr::to_string(&inventory).unwrap()).unwrap(), inventory);
    }

    #[test]
    fn errors_are_one_line_with_the_place() {
        let nodes = "nodes:\n  - name: node1\n  - name: node2\n";
        for (text, line, parts) in [
            ("nodes:\n  - name: node1\n pods: []\n", 3, &[][..]),
            ("nodes: [\n", 1, &["unclosed bracket"]),
            ("nodes:\n  - nmae: node1\n", 2, &["unknown field", "nmae", "name"]),
            ("nodes: []\npod: []\n", 2, &["unknown field", "pod", "pods"]),
            ("nodes:\n  - name: n\n    addresses: [10.0.0.300]\n", 3, &["10.0.0.300"]),
            ("pods: []\n", 1, &["missing field", "nodes"]),
            ("nodes:\n  - name: n\n  - name: n\n", 3, &["two nodes have the name n"]),
            (
                "nodes:\n  - {name: a, addresses: [10.0.0.1]}\n  - {name: b, addresses: [10.0.0.1]}\n",
                3,
                &["nodes a and b both have the address 10.0.0.1"],
            ),
            (
                &format!("{nodes}pods:\n  - {{name: a, node: node1}}\n  - {{name: a, node: node2}}\n"),
                6,
                &["two pods have the name default/a"],
            ),
            (
                &format!(
                    "{nodes}pods:\n  - {{name: a, node: node1, ips: [10.1.0.1]}}\n  \
                     - {{name: b, node: node2, ips: [10.1.0.2, 10.1.0.1]}}\n"
                ),
                6,
                &["pods default/a and default/b both have the address 10.1.0.1"],
            ),
            (
                &format!("{nodes}pods:\n  - {{name: a, node: node3}}\n"),
                5,
                &["pod default/a is on node \"node3\", which is not listed; nearest nodes: node1, node2"],
            ),
            (
                &format!("{nodes}services:\n  - {{name: s, endpoints: [default/a]}}\n"),
                5,
                &[
                    "service default/s has the endpoint \"default/a\", which is not a listed pod; there are no pods",
                ],
            ),
            (
                &format!(
                    "{nodes}services:\n  - name: s\n    ports: [{{protocol: TCP, port: 1, target_port: 1}}]\n"
                ),
                5,
                &["protocol \"TCP\"; valid are tcp, udp and sctp"],
            ),
            (
                &format!("{nodes}pods:\n  - {{name: \"a\\e[2J\", node: node1}}\n"),
                5,
                &["\"a\\u{1b}[2J\" is not a valid name"],
            ),
            ("nodes:\n  - {name: n, run: {command: []}}\n", 2, &["the command of node n is empty"]),
            ("nodes:\n  - {name: n, run: teleport}\n", 2, &["teleport", "netns"]),
        ] {
            let (at, what) = parse(text).unwrap_err();
            assert_eq!(at.0.map(|at| at.0), Some(line), "{what}\n{text}");
            for part in parts {
                assert!(what.contains(part), "{part:?} in {what:?}");
            }
            assert!(!what.contains(char::is_control), "{what:?}");
        }
    }

    #[test]
    fn errors_name_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("inventory.yaml");
        let error = load(&file).unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot read the inventory {}: ", file.display())), "{error}");
        std::fs::write(&file, "nodes:\n  - name: n\n  - name: n\n").unwrap();
        let error = load(&file).unwrap_err().to_string();
        assert_eq!(error, format!("{}:3:5: two nodes have the name n", file.display()));
    }
}
