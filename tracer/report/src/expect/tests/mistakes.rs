//! Expressions that are none.

use super::super::*;

#[test]
fn mistakes_are_pointed_at() {
    for (expression, message) in [
        ("", "column 1: expected a condition, such as `delivered`, `via cni0` or `loss == 0`"),
        ("delivred", "column 1: unexpected `delivred`; did you mean `delivered`?"),
        ("delivered and viaa cni0", "column 15: unexpected `viaa`; did you mean `via`?"),
        ("delivered adn complete", "column 11: expected `and`, `or` or the end; did you mean `and`?"),
        ("delivered complete", "column 11: expected `and`, `or` or the end"),
        (
            "verdict == lost",
            "column 12: unknown verdict `lost`: expected delivered, dropped, vanished, rejected or open",
        ),
        ("verdict == droped", "column 12: unknown verdict `droped`; did you mean `dropped`?"),
        ("verdict delivered", "column 9: expected == or != after `verdict`"),
        ("verdict < delivered", "column 9: expected == or != after `verdict`"),
        ("verdict ==", "column 11: expected delivered, dropped, vanished, rejected or open"),
        ("proto == ospf", "column 10: unknown protocol `ospf`: expected tcp, udp, icmp, icmpv6 or sctp"),
        ("actions == pod-egres > drop", "column 12: unknown action `pod-egres`; did you mean `pod-egress`?"),
        ("devices == veth* >", "column 19: expected a device's name, such as cni0 or veth*"),
        (
            "from == 10.0.0.300",
            "column 9: \"10.0.0.300\" is not an IP address; an endpoint is [NS/]POD, \
          svc/[NS/]NAME[:PORT], deploy|ds|sts|job/[NS/]NAME, node/NAME, IP[:PORT], [IPV6]:PORT, CIDR or any",
        ),
        ("hops <= many", "column 9: `many` is not an integer"),
        ("hops 8", "column 6: expected a comparison after `hops`: ==, !=, <, <=, > or >="),
        ("duration < 5", "column 12: `5` is not a time such as 1ms, 250us or 1.5s"),
        ("confidence > 2", "column 14: `2` is not a number from 0 to 1, such as 0.9"),
        ("loss < 5", "column 8: `5` is not a number from 0 to 1, such as 0.01 or 1%"),
        ("loss", "column 5: expected a comparison after `loss`: ==, !=, <, <=, > or >="),
        (
            "nat == full",
            "column 8: unknown kind of translation `full`: expected dnat, redirect, snat, masquerade, \
             un-dnat, un-redirect, un-snat or un-masquerade",
        ),
        ("any dropped", "column 5: expected `(` after `any`: any(dropped)"),
        (
            "any(loss == 0)",
            "column 5: `loss` is about the whole trace, but any(…) takes a condition on a path, such \
          as `delivered` or `via cni0`",
        ),
        (
            "all(any(dropped))",
            "column 5: `any` is about the whole trace, but all(…) takes a condition on a path, such \
          as `delivered` or `via cni0`",
        ),
        ("(delivered", "column 1: unclosed `(`"),
        ("delivered)", "column 10: unmatched `)`"),
        ("(delivered via cni0)", "column 12: expected `and`, `or` or `)`"),
        ("not", "column 4: expected a condition, such as `delivered`, `via cni0` or `loss == 0`"),
        ("a && b", "column 3: use `and` instead of `&&`"),
    ] {
        let error = expression.parse::<Expectation>().unwrap_err().to_string();
        assert_eq!(error.lines().next(), Some(message));
    }
}

#[test]
fn no_expression_takes_the_parser_down() {
    let deep = format!("{}delivered{}", "(".repeat(5_000), ")".repeat(5_000));
    assert!(deep.parse::<Expectation>().unwrap_err().to_string().contains("deeper than"));
    assert!("not ".repeat(4_000).parse::<Expectation>().unwrap_err().to_string().contains("deeper than"));
    assert!("x".repeat(20_000).parse::<Expectation>().unwrap_err().to_string().contains("longer than"));
    let whole = "none(a) and (devices == \"v é\" > .. or loss >= 5%) or count(not via x) != 3";
    for cut in (0..=whole.len()).filter(|cut| whole.is_char_boundary(*cut)) {
        let _ = whole[..cut].parse::<Expectation>().map_err(|error| error.to_string());
        let _ = whole[cut..].parse::<Expectation>().map_err(|error| error.to_string());
    }
    // Random words of the language, by a fixed generator.
    let words = [
        "delivered",
        "and",
        "or",
        "not",
        "(",
        ")",
        "any",
        "count",
        "==",
        ">",
        "<",
        "devices",
        "x",
        "..",
        "5%",
        "loss",
        "\"",
        "nat",
        "1ms",
        "é",
    ];
    let mut state: u32 = 1;
    for _ in 0..20_000 {
        let mut text = String::new();
        for _ in 0..12 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            text.push_str(words[state as usize / 65_536 % words.len()]);
            text.push(' ');
        }
        let _ = text.parse::<Expectation>().map_err(|error| error.to_string());
    }
}
