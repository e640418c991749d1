//! Looking at the running system: the rules of the network namespace that the caller is in.
//!
//! The programs that users have are asked, and asked for listings only. nft tells everything but what iptables' own
//! matches and targets mean; so tables with these are taken from `iptables-save`. The old back end keeps rules where nft
//! does not see them; whether it has any, the kernel says in `/proc`, so that nothing has to be loaded for an answer.

use std::net::IpAddr;

use super::keep::{BUDGET, keep};
use super::model::{Family, Gap, Rules, Table};
use super::{iptables, nft, run};

/// Tables that iptables has.
const TABLES: [&str; 5] = ["filter", "nat", "mangle", "raw", "security"];

/// Reads the rules of the caller's own network namespace, with the addresses that its node has. Blocks until the
/// programs that list them have ended, for some seconds at most. What cannot be read is a gap.
#[must_use]
pub fn read(local: Vec<IpAddr>) -> Rules {
    let rules = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(read_all()),
        Err(error) => {
            let text = format!("rules of the packet filter are not known: cannot run programs: {error}");
            Rules { gaps: vec![Gap { family: None, text }], ..Rules::default() }
        }
    };
    keep(Rules { local, ..rules }, BUDGET)
}

async fn read_all() -> Rules {
    let mut rules = Rules::default();
    let nft = listing(&mut rules.gaps).await;
    let has_nft = nft.is_some();
    let nft::Listing { tables, foreign } = nft.unwrap_or_default();
    rules.tables = tables;
    let mut found_any = has_nft;
    for variant in [V4, V6] {
        let of_iptables =
            rules.tables.iter().any(|table| table.family == variant.family && is_iptables(table));
        let opaque = foreign.iter().any(|(family, _)| *family == variant.family);
        let mut known = Vec::new();
        if of_iptables || opaque || !has_nft {
            let told = variant.tables(Back::Nft, &mut rules.gaps).await;
            found_any |= told.is_some();
            known = told.unwrap_or_default();
            // They are the same tables, told better.
            rules.tables.retain(|table| {
                table.family != variant.family || !known.iter().any(|known| known.name == table.name)
            });
        }
        let untold = foreign.iter().filter(|(family, name)| {
            *family == variant.family && !known.iter().any(|known| known.name == *name)
        });
        for (family, name) in untold {
            let text = format!(
                "conditions in table {name:?} ({family}) are not known: iptables made it, and only {} tells them: \
                 install iptables",
                variant.nft
            );
            rules.gaps.push(Gap { family: Some(*family), text });
        }
        rules.tables.extend(known);
        if variant.has_legacy() {
            match variant.tables(Back::Legacy, &mut rules.gaps).await {
                Some(tables) => rules.tables.extend(tables),
                None => {
                    let text = format!(
                        "rules of iptables' old back end ({}) are not known: {} is not installed: install iptables",
                        variant.family, variant.legacy
                    );
                    rules.gaps.push(Gap { family: Some(variant.family), text });
                }
            }
        }
    }
    if !has_nft && run::find("nft").is_none() {
        let text = if found_any {
            "rules of nftables' own are not known: nft is not installed: install nftables"
        } else {
            "rules of the packet filter are not known: install nftables or iptables"
        };
        rules.gaps.push(Gap { family: None, text: text.to_owned() });
    }
    rules
}

/// What nft lists; `None` if it is not there, or fails.
async fn listing(gaps: &mut Vec<Gap>) -> Option<nft::Listing> {
    let program = run::find("nft")?;
    let why = match run::output(&program, &["-j", "list", "ruleset"]).await {
        Ok(text) if text.trim().is_empty() => return Some(nft::Listing::default()),
        Ok(text) => match nft::parse(&text) {
            Ok(listing) => return Some(listing),
            Err(error) => format!("what it lists is not understood: {error}"),
        },
        Err(error) => error.to_string(),
    };
    let text = format!("rules of nftables are not known: `nft -j list ruleset`: {why}");
    gaps.push(Gap { family: None, text });
    None
}

/// Whether a table is of the kind that iptables makes: nft's users name chains in small letters.
fn is_iptables(table: &Table) -> bool {
    TABLES.contains(&table.name.as_str())
        && table
            .chains
            .iter()
            .any(|chain| chain.base.is_some() && chain.name.bytes().all(|byte| byte.is_ascii_uppercase()))
}

/// Where iptables keeps its rules.
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
    /// One of the two.
    either: &'static str,
    /// Names the old back end's tables.
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
    /// Whether the old back end has tables.
    fn has_legacy(&self) -> bool {
        std::fs::read_to_string(self.names).is_ok_and(|names| !names.trim().is_empty())
    }

    /// What iptables lists of its rules in one of the back ends; `None` if there is no program for it.
    async fn tables(&self, back: Back, gaps: &mut Vec<Gap>) -> Option<Vec<Table>> {
        let exact = match back {
            Back::Nft => self.nft,
            Back::Legacy => self.legacy,
        };
        for name in [exact, self.either] {
            let Some(program) = run::find(name) else { continue };
            match run::output(&program, &[]).await {
                // Its first line says which one it is; without rules, it has none.
                Ok(text)
                    if name == self.either
                        && !text.is_empty()
                        && is_nft_backed(&text) != (back == Back::Nft) => {}
                Ok(text) => return Some(iptables::parse(&text, self.family)),
                Err(error) => {
                    let text = format!("rules of iptables ({}) are not known: {name}: {error}", self.family);
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
