//! Three-valued truth: what the trace shows, what it refutes, and what it leaves open.

/// Whether something holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Truth {
    /// Refuted.
    No,
    /// Left open: by a clock error, or by what was not seen.
    Open,
    /// Shown.
    Yes,
}

impl Truth {
    /// Of what is certain.
    pub(super) fn of(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }

    /// The least of all; `Yes` if there are none.
    pub(super) fn all(truths: impl Iterator<Item = Self>) -> Self {
        truths.min().unwrap_or(Self::Yes)
    }

    /// The greatest of all; `No` if there are none.
    pub(super) fn any(truths: impl Iterator<Item = Self>) -> Self {
        truths.max().unwrap_or(Self::No)
    }
}

impl std::ops::Not for Truth {
    type Output = Self;

    fn not(self) -> Self {
        match self {
            Self::No => Self::Yes,
            Self::Open => Self::Open,
            Self::Yes => Self::No,
        }
    }
}

/// How a number is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    Unequal,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

/// A number that is known to lie between two others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Range<T> {
    pub(super) least: T,
    /// `None` if there is no telling.
    pub(super) most: Option<T>,
}

impl<T: PartialOrd + Copy> Range<T> {
    /// A number that is known.
    pub(super) fn exactly(number: T) -> Self {
        Self { least: number, most: Some(number) }
    }

    /// A number that is this or more.
    pub(super) fn from(least: T) -> Self {
        Self { least, most: None }
    }

    /// Whether the number compares so, wherever in its range it lies.
    pub(super) fn compare(self, comparison: Comparison, bound: T) -> Truth {
        let below = |number: Option<T>| number.is_some_and(|number| number < bound);
        let at_most = |number: Option<T>| number.is_some_and(|number| number <= bound);
        let between = |always: bool, never: bool| match (always, never) {
            (true, _) => Truth::Yes,
            (false, true) => Truth::No,
            (false, false) => Truth::Open,
        };
        match comparison {
            Comparison::Less => between(below(self.most), self.least >= bound),
            Comparison::AtMost => between(at_most(self.most), self.least > bound),
            Comparison::Greater => !self.compare(Comparison::AtMost, bound),
            Comparison::AtLeast => !self.compare(Comparison::Less, bound),
            Comparison::Equal => {
                between(self.least == bound && at_most(self.most), self.least > bound || below(self.most))
            }
            Comparison::Unequal => !self.compare(Comparison::Equal, bound),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Comparison::{AtLeast, AtMost, Equal, Greater, Less, Unequal};
    use super::Truth::{No, Open, Yes};
    use super::*;

    #[test]
    fn a_range_decides_only_what_all_of_it_agrees_on() {
        for (range, comparison, truth) in [
            (Range::exactly(5), Equal, Yes),
            (Range::exactly(4), Equal, No),
            (Range::exactly(5), Less, No),
            (Range::exactly(5), AtMost, Yes),
            (Range::exactly(5), AtLeast, Yes),
            (Range::exactly(5), Unequal, No),
            (Range { least: 3, most: Some(7) }, Less, Open),
            (Range { least: 3, most: Some(4) }, Less, Yes),
            (Range { least: 3, most: Some(5) }, Less, Open),
            (Range { least: 3, most: Some(5) }, AtMost, Yes),
            (Range { least: 5, most: Some(7) }, Less, No),
            (Range { least: 3, most: Some(7) }, Equal, Open),
            (Range { least: 6, most: Some(7) }, Equal, No),
            (Range { least: 6, most: Some(7) }, Greater, Yes),
            (Range::from(6), Greater, Yes),
            (Range::from(6), Equal, No),
            (Range::from(5), Equal, Open),
            (Range::from(2), AtMost, Open),
            (Range::from(2), AtLeast, Open),
        ] {
            assert_eq!(range.compare(comparison, 5), truth, "{range:?} {comparison:?} 5");
        }
    }
}
