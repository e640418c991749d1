//! Suggestions for a mistyped name.

/// Maximum number of suggestions.
const OFFERED: usize = 3;

/// The names most similar to `wanted`, best first. The part after the namespace counts first: a common namespace would
/// otherwise make all names of it similar.
fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    fn last(name: &str) -> &str {
        name.rsplit('/').next().unwrap_or(name)
    }
    let mut scored: Vec<_> = names
        .map(|name| {
            (strsim::jaro_winkler(last(wanted), last(name)), strsim::jaro_winkler(wanted, name), name)
        })
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.total_cmp(&a.1)).then(a.2.cmp(b.2)));
    scored.into_iter().take(OFFERED).map(|(.., name)| name).collect()
}

/// `nearest pods: a, b, c`, or `there are no pods`.
pub fn nearest_text<'a>(wanted: &str, kind: &str, names: impl Iterator<Item = &'a str>) -> String {
    let names = nearest(wanted, names);
    if names.is_empty() {
        format!("there are no {kind}")
    } else {
        format!("nearest {kind}: {}", names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_similar_come_first() {
        let names = ["default/pod1", "default/pod2", "kube-system/coredns", "shop/web-6d8c4cb4d-x2x7k"];
        assert_eq!(nearest("default/pod3", names.into_iter())[..2], ["default/pod1", "default/pod2"]);
        assert_eq!(nearest("default/coredns", names.into_iter())[0], "kube-system/coredns");
        assert_eq!(nearest("default/web", names.into_iter())[0], "shop/web-6d8c4cb4d-x2x7k");
    }

    #[test]
    fn without_names_it_says_so() {
        assert_eq!(nearest_text("x", "services", std::iter::empty()), "there are no services");
    }
}
