//! The kernel modules a guest loads, in an order in which each finds what it needs.
//!
//! Debian's packages hold no `modules.dep` (it is made when they are installed), but each module names the ones it
//! needs itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use object::{Object as _, ObjectSection as _};

use super::unzip::unzip;

/// What labs, tracers and their tests use. A kernel may lack some, or have them built in.
pub(super) const WANTED: [&str; 65] = [
    "veth",
    "bridge",
    "br_netfilter",
    "vxlan",
    "ip_tables",
    "ip6_tables",
    "iptable_filter",
    "iptable_nat",
    "xt_conntrack",
    "xt_MASQUERADE",
    "xt_mark",
    "xt_comment",
    "xt_nat",
    "xt_tcpudp",
    "ipt_REJECT",
    "xt_statistic",
    "xt_addrtype",
    "nf_conntrack",
    "nf_nat",
    "nf_tables",
    "nft_ct",
    "nft_counter",
    "nft_reject_ipv4",
    "nft_nat",
    "nft_masq",
    "nft_chain_nat",
    "nft_redir",
    "nft_numgen",
    "nft_fib_ipv4",
    "nft_queue",
    "nfnetlink_queue",
    "nf_conntrack_netlink",
    "nft_compat",
    "nft_reject_inet",
    "nfnetlink",
    "sch_ingress",
    "cls_bpf",
    "sch_netem",
    "sch_tbf",
    "cls_u32",
    "cls_matchall",
    "act_gact",
    "act_mirred",
    "dummy",
    "tun",
    "nft_reject_ipv6",
    "nft_reject_bridge",
    "nft_reject_netdev",
    "nft_meta_bridge",
    "nft_fib_ipv6",
    "nft_fib_inet",
    "nft_limit",
    "nft_log",
    "nft_quota",
    "nf_conntrack_bridge",
    "ip6t_REJECT",
    "ip6table_filter",
    "ip6table_nat",
    "xt_CT",
    "xt_multiport",
    "xt_limit",
    "xt_physdev",
    "virtio_pci",
    "virtio_net",
    "virtio_console",
];

/// A module as the guest gets it.
pub(super) struct Module {
    /// File name without folders.
    pub(super) file: String,
    /// Decompressed.
    pub(super) content: Vec<u8>,
}

/// The wanted modules that the kernel in `directory` (`lib/modules/RELEASE`) has, and all that those need.
pub(super) fn closure(directory: &Path, wanted: &[&str]) -> Result<Vec<Module>> {
    let mut files = BTreeMap::new();
    list(&directory.join("kernel"), &mut files)?;
    let mut closure = Closure { files, begun: BTreeSet::new(), modules: Vec::new() };
    for name in wanted {
        closure.add(&name.replace('-', "_"))?;
    }
    Ok(closure.modules)
}

struct Closure {
    files: BTreeMap<String, PathBuf>,
    begun: BTreeSet<String>,
    modules: Vec<Module>,
}

impl Closure {
    /// Adds a module after those that it needs. One that is not there is built in, or absent altogether: the tests
    /// will tell.
    fn add(&mut self, name: &str) -> Result<()> {
        if !self.begun.insert(name.to_owned()) {
            return Ok(());
        }
        let Some(path) = self.files.get(name) else { return Ok(()) };
        let about = || format!("cannot read the module {}", path.display());
        let content = fs::read(path).map_err(anyhow::Error::from).and_then(unzip).with_context(about)?;
        for needed in needs(&content).with_context(about)? {
            self.add(&needed)?;
        }
        self.modules.push(Module { file: format!("{name}.ko"), content });
        Ok(())
    }
}

/// Finds all modules below `directory` by name.
fn list(directory: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let about = || format!("cannot read {}", directory.display());
    for entry in fs::read_dir(directory).with_context(about)? {
        let path = entry.with_context(about)?.path();
        if path.is_dir() {
            list(&path, files)?;
        } else if let Some((name, ending)) =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.split_once('.'))
            && ending.starts_with("ko")
        {
            files.insert(name.replace('-', "_"), path);
        }
    }
    Ok(())
}

/// Names of the modules that a module needs.
fn needs(module: &[u8]) -> Result<Vec<String>> {
    let file = object::File::parse(module)?;
    let section = file.section_by_name(".modinfo").context("it has no .modinfo")?;
    Ok(depends(section.data()?))
}

/// The names in `depends=` among NUL-terminated entries.
fn depends(modinfo: &[u8]) -> Vec<String> {
    let entries = modinfo.split(|byte| *byte == 0);
    let names = entries.filter_map(|entry| entry.strip_prefix(b"depends="));
    let names = names.flat_map(|list| list.split(|byte| *byte == b','));
    names
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).replace('-', "_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_are_read_from_modinfo() {
        let modinfo = b"license=GPL\0depends=udp_tunnel,ip6-udp-tunnel\0retpoline=Y\0name=vxlan\0";
        assert_eq!(depends(modinfo), ["udp_tunnel", "ip6_udp_tunnel"]);
        assert!(depends(b"depends=\0").is_empty());
    }
}
