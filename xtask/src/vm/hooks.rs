//! What podtrace itself says of its hooks on a kernel: one JSON object a line, as the tests' `hooks` prints them.

use serde_json::Value;

/// How a line begins that tells of one hook.
const LINE: &str = "@hook ";

/// One hook on one node, and device if it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hook {
    /// `tc:ingress`, `tp:kfree_skb`, …
    pub(super) point: String,
    /// How it is attached; nothing if it is absent.
    pub(super) how: Option<String>,
    /// Why it is absent, or not attached the best way.
    pub(super) note: Option<String>,
    /// How many instructions the verifier went through.
    pub(super) instructions: Option<u64>,
}

/// Whether a line tells of a hook.
pub(super) fn is_one(line: &str) -> bool {
    line.starts_with(LINE)
}

/// The hooks in what a guest said.
pub(super) fn read(lines: &[String]) -> Vec<Hook> {
    let hook = |line: &String| {
        let hook: Value = serde_json::from_str(line.strip_prefix(LINE)?).ok()?;
        let text = |name: &str| hook[name].as_str().map(str::to_owned);
        Some(Hook {
            point: text("point")?,
            how: text("how"),
            note: text("note"),
            instructions: hook["instructions"].as_u64(),
        })
    };
    lines.iter().filter_map(hook).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_are_read_whatever_else_is_told_of_them() {
        let lines = [
            r#"@hook {"point":"tc:ingress","device":"eth0","how":"tcx","note":null,"node":"node1"}"#,
            r#"@hook {"point":"kprobe:ip_forward","device":null,"how":null,"note":"no kprobes","instructions":12}"#,
            "@hook nonsense",
            "something else",
        ];
        let hooks = read(&lines.map(str::to_owned));
        assert_eq!(hooks.len(), 2);
        assert_eq!((hooks[0].point.as_str(), hooks[0].how.as_deref()), ("tc:ingress", Some("tcx")));
        assert_eq!((hooks[1].note.as_deref(), hooks[1].instructions), (Some("no kprobes"), Some(12)));
    }
}
