//! Patterns of devices, actions or nodes in the order in which a packet passes them.

use wildmatch::WildMatch;

/// A pattern such as `veth* > cni0 > .. > veth*`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sequence(Vec<Element>);

/// One part of a pattern.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Element {
    /// A name with `*` and `?`.
    Name(WildMatch),
    /// `..`: any number of names, none too.
    Gap,
}

/// How far names follow a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Followed {
    /// Whether to the end.
    pub(super) wholly: bool,
    /// Names that follow it, from the first.
    pub(super) names: usize,
    /// What would have followed next: names, or the end.
    pub(super) next: Vec<String>,
}

impl Sequence {
    /// Of its parts.
    pub(super) fn new(elements: Vec<Element>) -> Self {
        Self(elements)
    }

    /// Parts that are names.
    pub(super) fn names(&self) -> usize {
        self.0.iter().filter(|element| matches!(element, Element::Name(_))).count()
    }

    /// Compares names with the pattern, keeping all places of the pattern where the next name may be: however many
    /// gaps there are, the time is names times parts.
    pub(super) fn follow<'a>(&self, names: impl Iterator<Item = &'a str>) -> Followed {
        let mut places = self.beyond_gaps(vec![0]);
        let mut followed = 0;
        for name in names {
            let mut next = Vec::new();
            for &place in &places {
                match self.0.get(place) {
                    Some(Element::Gap) => next.push(place),
                    Some(Element::Name(glob)) if glob.matches(name) => next.push(place + 1),
                    _ => {}
                }
            }
            if next.is_empty() {
                return Followed { wholly: false, names: followed, next: self.expected(&places) };
            }
            places = self.beyond_gaps(next);
            followed += 1;
        }
        let wholly = places.contains(&self.0.len());
        Followed { wholly, names: followed, next: self.expected(&places) }
    }

    /// These places, and those that a gap of no names leads to.
    fn beyond_gaps(&self, mut places: Vec<usize>) -> Vec<usize> {
        let mut index = 0;
        while let Some(&place) = places.get(index) {
            if self.0.get(place) == Some(&Element::Gap) {
                places.push(place + 1);
            }
            index += 1;
        }
        places.sort_unstable();
        places.dedup();
        places
    }

    fn expected(&self, places: &[usize]) -> Vec<String> {
        let name = |&place: &usize| match self.0.get(place) {
            Some(Element::Name(glob)) => Some(glob.to_string()),
            Some(Element::Gap) => None,
            None => Some("the end".to_owned()),
        };
        places.iter().filter_map(name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow(pattern: &str, names: &str) -> Followed {
        let elements = pattern.split(" > ").map(|part| match part {
            ".." => Element::Gap,
            name => Element::Name(WildMatch::new(name)),
        });
        Sequence::new(elements.collect()).follow(names.split_whitespace())
    }

    #[test]
    fn patterns_fit_whole_ways() {
        for (pattern, names) in [
            ("a", "a"),
            ("veth* > cni0 > veth*", "veth1 cni0 veth2"),
            (".. > cni0 > ..", "cni0"),
            (".. > cni0 > ..", "a cni0 b cni0"),
            ("a > .. > b", "a b"),
            ("a > .. > b", "a b c b"),
            (".. > ..", ""),
            ("eth? > eth?", "eth0 eth1"),
        ] {
            assert!(follow(pattern, names).wholly, "{pattern}: {names}");
        }
    }

    #[test]
    fn the_first_name_that_does_not_fit_is_found() {
        for (pattern, names, followed, next) in [
            ("a > b", "a c", 1, vec!["b"]),
            ("a > b", "a b c", 2, vec!["the end"]),
            ("a > b > c", "a b", 2, vec!["c"]),
            ("a > b", "", 0, vec!["a"]),
            ("a > .. > b", "a c d", 3, vec!["b"]),
            ("a > .. > b", "c", 0, vec!["a"]),
        ] {
            let found = follow(pattern, names);
            assert!(!found.wholly, "{pattern}: {names}");
            assert_eq!((found.names, found.next), (followed, next.iter().map(|&s| s.to_owned()).collect()));
        }
    }

    #[test]
    fn many_gaps_take_no_longer() {
        let pattern = ["a", ".."].repeat(200).join(" > ") + " > b";
        assert!(!follow(&pattern, &"a ".repeat(5_000)).wholly);
    }
}
