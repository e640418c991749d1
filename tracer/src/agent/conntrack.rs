//! What connection tracking counts in this network namespace: how full its table is, and packets that it dropped.

use std::fs;

use podtrace_protocol::frame::ConntrackStats;

/// Counters, a line for each CPU below their names.
const COUNTERS: &str = "/proc/thread-self/net/stat/nf_conntrack";
/// How many connections are tracked in this namespace, and how many the kernel allows.
const COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";
const MAX: &str = "/proc/sys/net/netfilter/nf_conntrack_max";

/// Reads the counters; `None` where nothing is tracked, or the kernel does not tell.
#[must_use]
pub fn read() -> Option<ConntrackStats> {
    let counters = parse(&fs::read_to_string(COUNTERS).ok()?)?;
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse().ok();
    Some(ConntrackStats { count: number(COUNT), max: number(MAX), ..counters })
}

fn parse(text: &str) -> Option<ConntrackStats> {
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next()?.split_whitespace().collect();
    let mut counters = ConntrackStats::default();
    for line in lines {
        let values: Vec<&str> = line.split_whitespace().collect();
        let of = |name: &str| {
            let at = names.iter().position(|other| *other == name)?;
            u64::from_str_radix(values.get(at)?, 16).ok()
        };
        counters.drop += of("drop")?;
        counters.early_drop += of("early_drop")?;
        counters.insert_failed += of("insert_failed")?;
    }
    Some(counters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_by_name_and_added_up() {
        let text = "entries  clashres found new invalid ignore delete chainlength insert insert_failed drop early_drop icmp_error\n\
                    00000010  00000000 00000000 00000000 00000003 00000000 00000000 00000000 00000000 00000002 0000000a 00000001 00000000\n\
                    00000010  00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000001 00000001 00000000 00000000\n";
        let counters = parse(text).unwrap();
        assert_eq!((counters.drop, counters.early_drop, counters.insert_failed), (11, 1, 3));
        assert_eq!(parse(""), None);
        assert_eq!(parse("entries drop\n1 2\n"), None);
    }
}
