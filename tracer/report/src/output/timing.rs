//! Formats times: a path's in one unit, each step in the unit that fits it, and an error bound for every latency between two
//! nodes.

use podtrace_path::{Hop, Path};

/// Unit that all times of one path are shown in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Microseconds,
    Milliseconds,
    Seconds,
}

/// A duration in the unit that fits it: `1.234 ms`.
pub(super) fn span(nanoseconds: i64) -> String {
    Unit::for_up_to(nanoseconds.unsigned_abs()).duration(nanoseconds, 0)
}

impl Unit {
    /// The unit that fits the path's longest time.
    pub(super) fn of(path: &Path) -> Self {
        let steps = path.hops.iter().filter_map(|hop| hop.at_ns).map(i64::unsigned_abs);
        let longest =
            steps.chain([path.duration_ns.unsigned_abs(), path.duration_error_ns]).max().unwrap_or(0);
        Self::for_up_to(longest)
    }

    pub(super) fn for_up_to(nanoseconds: u64) -> Self {
        match nanoseconds {
            0..2_000_000 => Self::Microseconds,
            2_000_000..2_000_000_000 => Self::Milliseconds,
            _ => Self::Seconds,
        }
    }

    /// Symbol of the unit.
    pub(super) fn symbol(self) -> &'static str {
        match self {
            Self::Microseconds => "µs",
            Self::Milliseconds => "ms",
            Self::Seconds => "s",
        }
    }

    /// The value in this unit, and its decimals: enough for a resolution of 0.1 µs to 1 µs.
    #[expect(
        clippy::cast_precision_loss,
        reason = "for reading: the digits shown are far fewer than 53 bits"
    )]
    fn digits(self, nanoseconds: i64) -> (f64, usize) {
        let value = nanoseconds as f64;
        match self {
            Self::Microseconds => (value / 1e3, 1),
            Self::Milliseconds => (value / 1e6, 3),
            Self::Seconds => (value / 1e9, 6),
        }
    }

    /// `12.3`, without the unit.
    pub(super) fn number(self, nanoseconds: i64) -> String {
        let (value, decimals) = self.digits(nanoseconds);
        format!("{value:.decimals$}")
    }

    /// `+12.3`, without the unit.
    pub(super) fn signed(self, nanoseconds: i64) -> String {
        let (value, decimals) = self.digits(nanoseconds);
        format!("{value:+.decimals$}")
    }

    /// `12.3 µs`, or with an error `12.3 ±3.0 µs`.
    pub(super) fn duration(self, nanoseconds: i64, error: u64) -> String {
        let number = self.number(nanoseconds);
        let symbol = self.symbol();
        if error == 0 { format!("{number} {symbol}") } else { format!("{number} {}", self.error(error)) }
    }

    /// `±3.0 µs`.
    pub(super) fn error(self, nanoseconds: u64) -> String {
        let number = self.number(i64::try_from(nanoseconds).unwrap_or(i64::MAX));
        format!("±{number} {}", self.symbol())
    }
}

/// The time since the previous hop that has a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Nanoseconds.
    pub(super) delta_ns: i64,
    /// Error bound in nanoseconds, if different clocks measured the two hops.
    pub(super) error_ns: Option<u64>,
}

impl Step {
    /// The unit that fits it and its error.
    fn unit(self) -> Unit {
        Unit::for_up_to(self.delta_ns.unsigned_abs().max(self.error_ns.unwrap_or(0)))
    }

    /// `+24.1 µs`. Where two clocks measured it and it came out negative, what is known: `<5.3 µs`.
    pub(super) fn time(self) -> (String, &'static str) {
        let unit = self.unit();
        let most = self.delta_ns.saturating_add_unsigned(self.error_ns.unwrap_or(0));
        let number = if self.delta_ns < 0 && most > 0 {
            format!("<{}", unit.number(most))
        } else {
            unit.signed(self.delta_ns)
        };
        (number, unit.symbol())
    }

    /// `±3.0 µs`.
    pub(super) fn error(self) -> Option<String> {
        self.error_ns.map(|error| self.unit().error(error))
    }
}

/// The step of each hop, without the time in the previous hop's queue, which is a step of its own; `None` for the first hop
/// and for hops without a time.
pub(super) fn steps(hops: &[Hop]) -> Vec<Option<Step>> {
    let mut previous: Option<(&Hop, i64)> = None;
    hops.iter()
        .map(|hop| {
            let at = hop.at_ns?;
            let step = previous.map(|(earlier, earlier_at)| Step {
                delta_ns: at.saturating_sub(earlier_at).saturating_sub(earlier.queued_ns.unwrap_or(0)),
                // Each error is relative to the first hop's clock; between two other clocks they add up.
                error_ns: (earlier.node != hop.node)
                    .then(|| earlier.clock_error_ns.saturating_add(hop.clock_error_ns)),
            });
            previous = Some((hop, at));
            step
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;

    #[test]
    fn numbers_keep_their_precision_in_every_unit() {
        assert_eq!(Unit::Microseconds.duration(88_812, 0), "88.8 µs");
        assert_eq!(Unit::Microseconds.duration(88_812, 3_000), "88.8 ±3.0 µs");
        assert_eq!(Unit::Milliseconds.signed(24_100), "+0.024");
        assert_eq!(Unit::Milliseconds.signed(-24_100), "-0.024");
        assert_eq!(Unit::Seconds.duration(1_204_113_000, 0), "1.204113 s");
    }

    #[test]
    fn the_unit_follows_the_longest_time() {
        let mut path = samples::cross_node_request();
        assert_eq!(Unit::of(&path), Unit::Microseconds);
        path.duration_ns = 3_000_000;
        assert_eq!(Unit::of(&path), Unit::Milliseconds);
        path.duration_error_ns = 5_000_000_000;
        assert_eq!(Unit::of(&path), Unit::Seconds);
    }

    #[test]
    fn steps_between_clocks_carry_both_errors() {
        let mut path = samples::cross_node_request();
        for hop in &mut path.hops {
            hop.clock_error_ns = if &*hop.node == "node1" { 1_000 } else { 3_000 };
        }
        let steps = steps(&path.hops);
        assert_eq!(steps.len(), path.hops.len());
        assert_eq!(steps[0], None);
        assert_eq!(steps[1], Some(Step { delta_ns: 24_100, error_ns: None }));
        assert_eq!(steps[4], Some(Step { delta_ns: 10_600, error_ns: Some(4_000) }));
        assert_eq!(steps[5], Some(Step { delta_ns: 14_300, error_ns: None }));
    }

    #[test]
    fn the_time_in_a_queue_is_not_the_wires() {
        let mut path = samples::cross_node_request();
        path.hops[3].queued_ns = Some(4_000);
        assert_eq!(steps(&path.hops)[4].map(|step| step.delta_ns), Some(6_600));
    }

    #[test]
    fn a_hop_without_a_time_is_stepped_over() {
        let path = samples::same_node();
        let steps = steps(&path.hops);
        assert_eq!(steps[1], None);
        assert_eq!(steps[2].map(|step| step.delta_ns), path.hops[2].at_ns);
    }
}
