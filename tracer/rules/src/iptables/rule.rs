//! Parses one rule of `iptables-save`: its conditions and its action.

use std::collections::HashMap;

use super::value::{condition, marking, nat, ports};
use crate::model::{Action, Match, Rule};

/// Targets without an effect on the packet's path.
const PASSING: [&str; 19] = [
    "AUDIT",
    "CHECKSUM",
    "CLASSIFY",
    "CONNSECMARK",
    "CT",
    "DSCP",
    "ECN",
    "HL",
    "LOG",
    "NFLOG",
    "NOTRACK",
    "RATEEST",
    "SECMARK",
    "SET",
    "TCPMSS",
    "TEE",
    "TOS",
    "TRACE",
    "TTL",
];

/// Modules that match everything without options; their options are known here.
const MODULES: [&str; 15] = [
    "tcp",
    "udp",
    "udplite",
    "sctp",
    "dccp",
    "comment",
    "multiport",
    "mark",
    "addrtype",
    "conntrack",
    "state",
    "iprange",
    "icmp",
    "icmp6",
    "nfacct",
];

/// Reads the words of one rule.
pub(super) struct Reader<'a> {
    words: std::iter::Peekable<std::slice::Iter<'a, String>>,
    chains: &'a HashMap<String, usize>,
    matches: Vec<Match>,
    comments: Vec<&'a str>,
    /// The rule again, without comments.
    text: String,
}

impl<'a> Reader<'a> {
    pub(super) fn new(words: &'a [String], chains: &'a HashMap<String, usize>) -> Self {
        Self {
            words: words.iter().peekable(),
            chains,
            matches: Vec::new(),
            comments: Vec::new(),
            text: String::new(),
        }
    }

    /// `None` if the rule has no effect on the packet's path.
    pub(super) fn read(mut self) -> Option<Rule> {
        let mut action = None;
        while let Some(word) = self.next() {
            let negated = word == "!";
            let option = if negated { self.next()? } else { word };
            match option {
                "-j" | "-g" => {
                    self.write(option);
                    let target = self.next()?;
                    self.write(target);
                    action = Some(self.target(target, option == "-g")?);
                    break;
                }
                // Counts, and matches everything.
                "--nfacct-name" => drop(self.values()),
                "--comment" => self.comments.extend(self.words.next().map(String::as_str)),
                _ => self.matched(option, negated)?,
            }
        }
        let Self { matches, comments, text, .. } = self;
        let action = action?;
        let text = if action.translates() || action.drops() { text } else { String::new() };
        let comment = (!comments.is_empty()).then(|| comments.join("; "));
        Some(Rule { handle: None, matches, action, comment, text })
    }

    fn next(&mut self) -> Option<&'a str> {
        self.words.next().map(String::as_str)
    }

    fn write(&mut self, word: &str) {
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        if word.is_empty() || word.contains(char::is_whitespace) {
            self.text.push('"');
            self.text.push_str(word);
            self.text.push('"');
        } else {
            self.text.push_str(word);
        }
    }

    /// Values up to the next option.
    fn values(&mut self) -> Vec<&'a str> {
        let mut values = Vec::new();
        while let Some(value) = self.words.next_if(|word| *word != "!" && !is_option(word)) {
            values.push(value.as_str());
        }
        values
    }

    /// One condition: an option, and its value.
    fn matched(&mut self, option: &'a str, negated: bool) -> Option<()> {
        if option == "-m" {
            let module = self.next()?;
            if module != "comment" {
                self.write("-m");
                self.write(module);
            }
            if !MODULES.contains(&module) {
                let values = self.values();
                values.iter().for_each(|value| self.write(value));
                // Its options are not known, and it may match something even without any.
                if self.words.peek().is_none_or(|word| !word.starts_with("--") && *word != "!") {
                    self.matches.push(Match::Other(format!("-m {module}")));
                }
            }
            return Some(());
        }
        let values = self.values();
        if negated {
            self.write("!");
        }
        self.write(option);
        values.iter().for_each(|value| self.write(value));
        let known = match values.as_slice() {
            [value] => condition(option, value),
            _ => None,
        };
        let matched = known.unwrap_or_else(|| {
            let mut words = vec![option];
            words.extend(&values);
            Match::Other(words.join(" "))
        });
        self.matches.push(matched.negated(negated));
        Some(())
    }

    /// The action of the target; `None` if it has no effect on the packet's path.
    fn target(&mut self, target: &'a str, goes: bool) -> Option<Action> {
        let mut options = Vec::new();
        while let Some(option) = self.next() {
            self.write(option);
            let values = self.values();
            values.iter().for_each(|value| self.write(value));
            options.push((option, values.first().copied().unwrap_or_default()));
        }
        let given = |name: &str| {
            let mut values = options.iter().filter(|(option, _)| *option == name).map(|(_, value)| *value);
            // Given twice, an address could be either.
            values.next().filter(|_| values.next().is_none())
        };
        if self.chains.contains_key(target) {
            let chain = target.to_owned();
            return Some(if goes { Action::Goto(chain) } else { Action::Jump(chain) });
        }
        if PASSING.contains(&target) {
            return None;
        }
        Some(match target {
            "ACCEPT" => Action::Accept,
            "RETURN" => Action::Return,
            "DROP" => Action::Drop,
            "REJECT" => Action::Reject,
            "DNAT" => Action::Dnat(given("--to-destination").and_then(nat)),
            "SNAT" => Action::Snat(given("--to-source").and_then(nat)),
            "MASQUERADE" => Action::Masquerade,
            "REDIRECT" => Action::Redirect(given("--to-ports").and_then(ports)),
            "MARK" => Action::Mark(options.first().and_then(|(option, value)| marking(option, value))),
            // Its effect on the mark depends on the connection's.
            "CONNMARK" if options.iter().any(|(option, _)| *option == "--restore-mark") => Action::Mark(None),
            "CONNMARK" => return None,
            _ => Action::Other(target.to_owned()),
        })
    }
}

fn is_option(word: &str) -> bool {
    let mut chars = word.chars();
    chars.next() == Some('-') && chars.next().is_some_and(|c| c == '-' || c.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iptables::parse;
    use crate::model::{Family, Field, Marking, Nat, Range, Table};

    fn rule(words_of_rule: &str) -> Option<Rule> {
        let text = format!(
            "*nat\n:POSTROUTING ACCEPT [0:0]\n:A - [0:0]\n:B - [0:0]\n-A A {words_of_rule}\nCOMMIT\n"
        );
        let [table] = <[Table; 1]>::try_from(parse(&text, Family::Ip)).expect("one table");
        let chain = table.chains.into_iter().find(|chain| chain.name == "A").expect("the chain");
        chain.rules.into_iter().next()
    }

    fn matches(words_of_rule: &str) -> Vec<Match> {
        rule(&format!("{words_of_rule} -j ACCEPT")).expect("a rule").matches
    }

    fn action(words_of_rule: &str) -> Action {
        rule(words_of_rule).expect("a rule").action
    }

    #[test]
    fn conditions_are_understood() {
        let is = |field, range| Match::Is(field, vec![range]);
        let net = |text: &str| Range::Net(text.parse().expect("a network"));
        for (words, expected) in [
            ("-s 10.42.0.0/16", is(Field::Source, net("10.42.0.0/16"))),
            ("! -d 10.43.0.10/255.255.0.0", is(Field::Destination, net("10.43.0.0/16")).negated(true)),
            ("-s fd00::1/128", is(Field::Source, net("fd00::1/128"))),
            ("-i veth+", is(Field::InDevice, Range::Word("veth*".to_owned()))),
            ("-p udp", is(Field::Protocol, Range::number(17))),
            ("-m tcp --dport 80", is(Field::DestinationPort, Range::number(80))),
            ("-m tcp --sport 1024:", is(Field::SourcePort, Range::Numbers(1024, 65535))),
            (
                "-m multiport --dports 22,8000:8080",
                Match::Is(Field::DestinationPort, vec![Range::number(22), Range::Numbers(8000, 8080)]),
            ),
            ("-m mark ! --mark 0x4000/0x4000", is(Field::Mark, Range::Bits(0x4000, 0x4000)).negated(true)),
            ("-m mark --mark 7", is(Field::Mark, Range::Bits(u32::MAX, 7))),
            ("-m addrtype --dst-type LOCAL", is(Field::DestinationType, Range::Word("local".to_owned()))),
            (
                "-m conntrack --ctstate RELATED,DNAT",
                Match::Is(
                    Field::State,
                    vec![Range::Word("related".to_owned()), Range::Other("DNAT".to_owned())],
                ),
            ),
            ("-m statistic --mode random --probability 0.5", Match::Other("--mode random".to_owned())),
            ("-m set --match-set blocked src", Match::Other("--match-set blocked src".to_owned())),
            ("-m socket", Match::Other("-m socket".to_owned())),
            ("-m tcp --tcp-flags SYN,RST SYN", Match::Other("--tcp-flags SYN,RST SYN".to_owned())),
            ("-m u32 ! --u32 \"0 & 1 = 1\"", Match::Other("--u32 0 & 1 = 1".to_owned()).negated(true)),
        ] {
            assert_eq!(matches(words).first(), Some(&expected), "{words}");
        }
    }

    #[test]
    fn a_comment_asks_nothing_and_stays_as_it_was_said() {
        let rule = rule(r#"-m comment --comment "name: \"cbr0\" -j DROP" -j MASQUERADE --random-fully"#)
            .expect("a rule");
        assert_eq!(rule.comment.as_deref(), Some(r#"name: "cbr0" -j DROP"#));
        assert_eq!((rule.matches.len(), rule.action), (0, Action::Masquerade));
        assert_eq!(rule.text, "-j MASQUERADE --random-fully");
    }

    #[test]
    fn what_counts_packets_asks_nothing() {
        let counted = rule("-m conntrack --ctstate INVALID -m nfacct --nfacct-name  dropped_pkts -j DROP");
        assert_eq!(counted.map(|rule| rule.matches.len()), Some(1));
    }

    #[test]
    fn targets_are_understood() {
        let nat = |first: &str, last: &str, ports| {
            Some(Nat { addresses: first.parse().ok().zip(last.parse().ok()), ports })
        };
        let to = |first, ports| Action::Dnat(nat(first, first, ports));
        for (words, expected) in [
            ("-j DNAT --to-destination 10.42.1.10:8080", to("10.42.1.10", Some((8080, 8080)))),
            ("-j DNAT --to-destination 10.42.1.10", to("10.42.1.10", None)),
            ("-j DNAT --to-destination [fd00::a]:80", to("fd00::a", Some((80, 80)))),
            ("-j DNAT --to-destination fd00::a", to("fd00::a", None)),
            ("-j DNAT --to-destination :8080", to("", Some((8080, 8080)))),
            ("-j DNAT --to-destination :0 --persistent --to-destination :0 --persistent", Action::Dnat(None)),
            ("-j DNAT [unsupported revision]", Action::Dnat(None)),
            (
                "-p tcp -j SNAT --to-source 10.0.0.1-10.0.0.9:1024-2048 --persistent",
                Action::Snat(nat("10.0.0.1", "10.0.0.9", Some((1024, 2048)))),
            ),
            ("-p tcp -j REDIRECT --to-ports 80", Action::Redirect(Some((80, 80)))),
            (
                "-j MARK --set-xmark 0x4000/0x4000",
                Action::Mark(Some(Marking { keep: !0x4000, toggle: 0x4000 })),
            ),
            ("-j MARK --set-xmark 0x4000/0x0", Action::Mark(Some(Marking { keep: !0, toggle: 0x4000 }))),
            ("-j CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80", Action::Mark(None)),
            ("-j REJECT --reject-with icmp-port-unreachable", Action::Reject),
            ("-j B", Action::Jump("B".to_owned())),
            ("-g B", Action::Goto("B".to_owned())),
            ("-j NFQUEUE --queue-num 0", Action::Other("NFQUEUE".to_owned())),
        ] {
            assert_eq!(action(words), expected, "{words}");
        }
    }

    #[test]
    fn what_changes_nothing_is_no_rule() {
        for words in ["", "-s 10.0.0.1/32", "-j LOG --log-prefix \"a -j DROP\"", "-j", "!"] {
            assert_eq!(rule(words), None, "{words}");
        }
    }
}
