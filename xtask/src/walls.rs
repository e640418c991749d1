//! What crates may depend on: the arrows drawn in `ARCHITECTURE.md`, and nothing of a platform's in those that are pure.
//!
//! The drawing is the one source. Tests here compare it with what cargo says; `cargo xtask check` compiles the pure crates
//! for a target that has no operating system.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result, ensure};

use crate::workspace;

/// Where the drawing is, between these two lines.
const DRAWING: &str = "ARCHITECTURE.md";
const BEGIN: &str = "```mermaid";
const END: &str = "```";

/// How an arrow is drawn, and how a crate is marked as pure.
const ARROW: &str = " --> ";
const PURE: &str = ":::pure";

/// The workspace's crates as they are drawn.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Walls {
    /// Crates that depend on no platform.
    pub(crate) pure: BTreeSet<String>,
    /// Which crate depends on which.
    arrows: BTreeSet<(String, String)>,
}

impl Walls {
    /// Reads the drawing.
    pub(crate) fn drawn() -> Result<Self> {
        let path = workspace::root().join(DRAWING);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let walls = Self::read(&text);
        ensure!(!walls.pure.is_empty(), "{DRAWING} draws no pure crate: lines such as `podtrace-path{PURE}`");
        Ok(walls)
    }

    fn read(text: &str) -> Self {
        let mut walls = Self::default();
        let drawing = text.lines().map(str::trim).skip_while(|line| *line != BEGIN).skip(1);
        for line in drawing.take_while(|line| *line != END) {
            if let Some((from, to)) = line.split_once(ARROW) {
                // A & B: the same arrow for each.
                walls.arrows.extend(to.split(" & ").map(|to| (from.to_owned(), to.to_owned())));
            } else if let Some(name) = line.strip_suffix(PURE) {
                walls.pure.insert(name.to_owned());
            }
        }
        walls
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::build::host_cargo;
    use crate::{run, targets};

    /// What reaches for the network, the kernel or a cluster. A name that ends in `*` stands for all that begin so.
    const PLATFORM: [&str; 20] = [
        "aya*",
        "http",
        "hyper*",
        "k8s-openapi",
        "kube*",
        "mio",
        "native-tls",
        "netlink-*",
        "nix",
        "openssl*",
        "podtrace",
        "podtrace-tests",
        "polling",
        "ring",
        "rtnetlink",
        "rustls*",
        "signal-hook*",
        "socket2",
        "tokio*",
        "tower*",
    ];

    fn is_of_a_platform(name: &str) -> bool {
        PLATFORM.iter().any(|known| match known.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == *known,
        })
    }

    #[test]
    fn a_drawing_is_read() {
        let text = "a --> b\n```mermaid\ngraph TD\n  c --> d & e\n  d:::pure\n  classDef pure fill:#fff\n```\nf --> g\n";
        let walls = Walls::read(text);
        assert_eq!(walls.arrows, [("c", "d"), ("c", "e")].map(|(from, to)| (from.into(), to.into())).into());
        assert_eq!(walls.pure, ["d".to_owned()].into());
    }

    #[test]
    fn crates_depend_on_each_other_as_drawn() {
        let drawn = Walls::drawn().unwrap().arrows;
        let mut built = BTreeSet::new();
        for package in targets::packages().unwrap() {
            let dependencies = package["dependencies"].as_array().unwrap();
            // Tests may depend on whatever tests need; a path is had by crates of ours alone.
            for to in dependencies.iter().filter(|to| to["kind"] == Value::Null && to["path"].is_string()) {
                let name = |value: &Value| value.as_str().unwrap().to_owned();
                built.insert((name(&package["name"]), name(&to["name"])));
            }
        }
        let undrawn: Vec<_> = built.difference(&drawn).collect();
        assert!(undrawn.is_empty(), "arrows that {DRAWING} does not draw: {undrawn:?}");
        let gone: Vec<_> = drawn.difference(&built).collect();
        assert!(gone.is_empty(), "{DRAWING} draws arrows that are not there: {gone:?}");
    }

    #[test]
    fn pure_crates_and_their_tests_depend_on_no_platform() {
        for name in Walls::drawn().unwrap().pure {
            let mut cargo = host_cargo("tree");
            // One at a time, for together one would have the features that another asks for.
            cargo.args(["--locked", "--package", &name, "--edges", "all", "--target", "all"]);
            let tree = run::ask(cargo.args(["--prefix", "none", "--format", "{p}"])).unwrap();
            let names: BTreeSet<_> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
            assert!(names.contains(name.as_str()), "cargo tells no tree of {name}");
            let found: Vec<_> = names.into_iter().filter(|name| is_of_a_platform(name)).collect();
            assert!(
                found.is_empty(),
                "{name} is pure and depends on {found:?}: `cargo tree -p {name} -e all --target all -i NAME` says how"
            );
        }
    }
}
