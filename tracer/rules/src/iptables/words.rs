//! Splits a line of `iptables-save` into words.

/// Splits at blanks like a shell: double quotes keep blanks, and a backslash escapes a quote.
pub(super) fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = None::<String>;
    let mut quoted = false;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' => word.get_or_insert_default().extend(chars.next()),
            c if c.is_whitespace() && !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn quotes_hold_blanks_and_backslashes_hold_quotes() {
        for (line, expected) in [
            ("-A KUBE-SERVICES  -j X", vec!["-A", "KUBE-SERVICES", "-j", "X"]),
            (r#"--comment "a b" -j X"#, vec!["--comment", "a b", "-j", "X"]),
            (r#"--comment "name: \"cbr0\" id: \"a-b\"""#, vec!["--comment", r#"name: "cbr0" id: "a-b""#]),
            (r#"--comment """#, vec!["--comment", ""]),
            (r#"--comment "open"#, vec!["--comment", "open"]),
            ("\\", vec![""]),
            ("", vec![]),
        ] {
            assert_eq!(words(line), expected, "{line}");
        }
    }
}
