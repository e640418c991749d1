//! Reads the packet filter of the caller's network namespace, by running the programs that list it.
//!
//! 1. `nft -j list ruleset` lists everything except what iptables' own matches and targets mean.
//! 2. Tables with such matches, or all if nft is not installed, come from `iptables-nft-save`.
//! 3. Rules of iptables' legacy back end are invisible to nft. `/proc` shows whether there are any, without loading a
//!    kernel module. If so, they come from `iptables-legacy-save`.
//!
//! Whatever cannot be read becomes a [`Gap`] that says what to install. Nothing is ever changed.

use std::net::IpAddr;

use super::run;
use podtrace_rules::{BUDGET, keep};
use podtrace_rules::{Family, Gap, Rules, Table};
use podtrace_rules::{iptables, nft};

/// Names of iptables' tables.
const TABLES: [&str; 5] = ["filter", "nat", "mangle", "raw", "security"];

/// Reads the rules of the caller's network namespace; `local` are the node's own addresses. Blocks until the programs have
/// ended, at most some seconds. What cannot be read is a gap.
#[must_use]
pub fn read(local: Vec<IpAddr>) -> Rules {
    let rules = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(read_all(&Here)),
        Err(error) => {
            let text = format!("cannot read the packet filter's rules: cannot run programs: {error}");
            Rules { gaps: vec![Gap { family: None, text }], ..Rules::default() }
        }
    };
    keep(Rules { local, ..rules }, BUDGET)
}

/// Access to the system, so that tests can replace it.
trait System {
    /// Output of a program; `None` if it is not installed.
    async fn ask(&self, program: &str, arguments: &[&str]) -> Option<Result<String, run::Error>>;

    /// The names of the legacy back end's tables.
    fn legacy_tables(&self, variant: &Variant) -> String;
}

/// The running system.
struct Here;

impl System for Here {
    async fn ask(&self, program: &str, arguments: &[&str]) -> Option<Result<String, run::Error>> {
        Some(run::output(&run::find(program)?, arguments).await)
    }

    fn legacy_tables(&self, variant: &Variant) -> String {
        // Missing if the kernel has no legacy back end.
        std::fs::read_to_string(variant.names).unwrap_or_default()
    }
}

async fn read_all(system: &impl System) -> Rules {
    let mut rules = Rules::default();
    let listing = listing(system, &mut rules.gaps).await;
    let installed = listing.is_some();
    let listing = listing.flatten();
    let has_nft = listing.is_some();
    let nft::Listing { tables, foreign } = listing.unwrap_or_default();
    rules.tables = tables;
    let mut found_any = has_nft;
    for variant in [V4, V6] {
        let of_iptables =
            rules.tables.iter().any(|table| table.family == variant.family && is_iptables(table));
        let opaque = foreign.iter().any(|(family, _)| *family == variant.family);
        let mut known = Vec::new();
        if of_iptables || opaque || !has_nft {
            let listed = variant.tables(system, Back::Nft, &mut rules.gaps).await;
            found_any |= listed.is_some();
            known = listed.unwrap_or_default();
            // These replace the same tables as listed by nft.
            rules.tables.retain(|table| {
                table.family != variant.family || !known.iter().any(|known| known.name == table.name)
            });
        }
        let unreadable = foreign.iter().filter(|(family, name)| {
            *family == variant.family && !known.iter().any(|known| known.name == *name)
        });
        for (family, name) in unreadable {
            let text = format!(
                "cannot read the matches in table {name:?} ({family}): iptables made it, and only {} shows them; \
                 install iptables",
                variant.nft
            );
            rules.gaps.push(Gap { family: Some(*family), text });
        }
        rules.tables.extend(known);
        if !system.legacy_tables(&variant).trim().is_empty() {
            match variant.tables(system, Back::Legacy, &mut rules.gaps).await {
                Some(tables) => rules.tables.extend(tables),
                None => {
                    let text = format!(
                        "cannot read iptables-legacy rules ({}): {} is not installed: install iptables",
                        variant.family, variant.legacy
                    );
                    rules.gaps.push(Gap { family: Some(variant.family), text });
                }
            }
        }
    }
    if !installed {
        let text = if found_any {
            "cannot read nftables rules: nft is not installed: install nftables"
        } else {
            "cannot read the packet filter's rules: install nftables or iptables"
        };
        rules.gaps.push(Gap { family: None, text: text.to_owned() });
    }
    rules
}

/// The listing of nft: `None` if it is not installed, `Some(None)` if it fails.
async fn listing(system: &impl System, gaps: &mut Vec<Gap>) -> Option<Option<nft::Listing>> {
    let why = match system.ask("nft", &["-j", "list", "ruleset"]).await? {
        Ok(text) if text.trim().is_empty() => return Some(Some(nft::Listing::default())),
        Ok(text) => match nft::parse(&text) {
            Ok(listing) => return Some(Some(listing)),
            Err(error) => format!("cannot parse its output: {error}"),
        },
        Err(error) => error.to_string(),
    };
    let text = format!("cannot read nftables rules: `nft -j list ruleset`: {why}");
    gaps.push(Gap { family: None, text });
    Some(None)
}

/// Whether iptables made a table. It names base chains in capital letters, users of nft in lower case.
fn is_iptables(table: &Table) -> bool {
    TABLES.contains(&table.name.as_str())
        && table
            .chains
            .iter()
            .any(|chain| chain.base.is_some() && chain.name.bytes().all(|byte| byte.is_ascii_uppercase()))
}

/// The back end in which iptables keeps its rules.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Back {
    Nft,
    Legacy,
}

/// The programs for one version of IP.
struct Variant {
    family: Family,
    nft: &'static str,
    legacy: &'static str,
    /// One of the two, depending on the distribution.
    either: &'static str,
    /// Lists the names of the legacy back end's tables.
    names: &'static str,
}

const V4: Variant = Variant {
    family: Family::Ip,
    nft: "iptables-nft-save",
    legacy: "iptables-legacy-save",
    either: "iptables-save",
    names: "/proc/thread-self/net/ip_tables_names",
};

const V6: Variant = Variant {
    family: Family::Ip6,
    nft: "ip6tables-nft-save",
    legacy: "ip6tables-legacy-save",
    either: "ip6tables-save",
    names: "/proc/thread-self/net/ip6_tables_names",
};

impl Variant {
    /// The tables of one back end; `None` if no program for it is installed.
    async fn tables(&self, system: &impl System, back: Back, gaps: &mut Vec<Gap>) -> Option<Vec<Table>> {
        let exact = match back {
            Back::Nft => self.nft,
            Back::Legacy => self.legacy,
        };
        for name in [exact, self.either] {
            let Some(output) = system.ask(name, &[]).await else { continue };
            match output {
                // The first line names the back end. Without rules there is no such line.
                Ok(text)
                    if name == self.either
                        && !text.is_empty()
                        && is_nft_backed(&text) != (back == Back::Nft) => {}
                Ok(text) => return Some(iptables::parse(&text, self.family)),
                Err(error) => {
                    let text = format!("cannot read iptables rules ({}): {name}: {error}", self.family);
                    gaps.push(Gap { family: Some(self.family), text });
                    return Some(Vec::new());
                }
            }
        }
        None
    }
}

fn is_nft_backed(text: &str) -> bool {
    text.lines().next().is_some_and(|first| first.contains("nf_tables"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAT: &str = "*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -j MASQUERADE\nCOMMIT\n";

    fn listing(family: &str, table: &str, chain: &str, statement: &str) -> String {
        format!(
            r#"{{"nftables": [{{"chain": {{"family": "{family}", "table": "{table}", "name": "{chain}", "type": "nat", "hook": "postrouting"}}}},
            {{"rule": {{"family": "{family}", "table": "{table}", "chain": "{chain}", "expr": [{statement}]}}}}]}}"#
        )
    }

    /// A system whose programs print something or fail.
    struct Programs<'a> {
        programs: &'a [(&'a str, Result<&'a str, &'a str>)],
        legacy: &'a str,
    }

    impl System for Programs<'_> {
        async fn ask(&self, program: &str, _: &[&str]) -> Option<Result<String, run::Error>> {
            let (_, output) = self.programs.iter().find(|(name, _)| *name == program)?;
            Some(output.map(ToOwned::to_owned).map_err(|why| run::Error::Failed(why.to_owned())))
        }

        fn legacy_tables(&self, variant: &Variant) -> String {
            if variant.family == Family::Ip { self.legacy.to_owned() } else { String::new() }
        }
    }

    fn read_with(programs: &[(&str, Result<&str, &str>)], legacy: &str) -> Rules {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(read_all(&Programs { programs, legacy }))
    }

    fn read_and_gaps(rules: &Rules) -> (Vec<String>, Vec<&str>) {
        let tables =
            rules.tables.iter().map(|table| format!("{} {} {}", table.framework, table.family, table.name));
        (tables.collect(), rules.gaps.iter().map(|gap| gap.text.as_str()).collect())
    }

    #[test]
    fn without_programs_there_is_a_gap() {
        let rules = read_with(&[], "");
        assert_eq!(
            read_and_gaps(&rules),
            (vec![], vec!["cannot read the packet filter's rules: install nftables or iptables"])
        );
    }

    #[test]
    fn an_empty_rule_set_is_no_gap() {
        let rules = read_with(&[("nft", Ok(r#"{"nftables": []}"#))], "");
        assert_eq!(read_and_gaps(&rules), (vec![], vec![]));
    }

    #[test]
    fn tables_that_iptables_made_are_taken_from_iptables() {
        let listing =
            listing("ip", "nat", "POSTROUTING", r#"{"xt": {"type": "target", "name": "MASQUERADE"}}"#);
        let header = format!("# Generated by iptables-save v1.8.9 (nf_tables) on Tue\n{NAT}");
        for program in ["iptables-nft-save", "iptables-save"] {
            let rules = read_with(&[("nft", Ok(&listing)), (program, Ok(&header))], "");
            assert_eq!(read_and_gaps(&rules), (vec!["iptables ip nat".to_owned()], vec![]), "{program}");
        }
        let rules = read_with(&[("nft", Ok(&listing))], "");
        assert_eq!(
            read_and_gaps(&rules),
            (
                vec!["nft ip nat".to_owned()],
                vec![
                    "cannot read the matches in table \"nat\" (ip): iptables made it, and only iptables-nft-save shows \
                     them; install iptables"
                ]
            )
        );
    }

    #[test]
    fn the_legacy_back_end_is_read_only_if_it_has_tables() {
        let own = listing("ip", "mine", "post", r#"{"masquerade": null}"#);
        let old = format!("# Generated by iptables-save v1.8.9 on Tue\n{NAT}");
        let programs = [("nft", Ok(own.as_str())), ("iptables-save", Ok(old.as_str()))];
        assert_eq!(read_and_gaps(&read_with(&programs, "")), (vec!["nft ip mine".to_owned()], vec![]));
        let both = vec!["nft ip mine".to_owned(), "iptables ip nat".to_owned()];
        assert_eq!(read_and_gaps(&read_with(&programs, "nat\n")), (both, vec![]));
        let rules = read_with(&programs[..1], "nat\n");
        assert_eq!(
            read_and_gaps(&rules).1,
            [
                "cannot read iptables-legacy rules (ip): iptables-legacy-save is not installed: install iptables"
            ]
        );
    }

    #[test]
    fn a_program_that_fails_is_a_gap_with_its_reason() {
        let rules = read_with(&[("nft", Err("Operation not permitted"))], "");
        let why = "cannot read nftables rules: `nft -j list ruleset`: it failed: Operation not permitted";
        assert_eq!(read_and_gaps(&rules), (vec![], vec![why]));
        let rules = read_with(&[("nft", Ok("["))], "");
        assert!(rules.gaps[0].text.contains("cannot parse its output: invalid type"), "{:?}", rules.gaps);
        let rules = read_with(&[("iptables-nft-save", Err("exit status: 1"))], "");
        assert_eq!(
            read_and_gaps(&rules).1,
            [
                "cannot read iptables rules (ip): iptables-nft-save: it failed: exit status: 1",
                "cannot read nftables rules: nft is not installed: install nftables"
            ]
        );
    }
}
