//! The value of `--sample`: `1/100` is one in a hundred packets.

use std::num::NonZeroU32;

/// Most packets of which one is traced.
const MOST: u32 = 1_000_000;

/// Parses `1/N`.
pub(super) fn one_in(text: &str) -> Result<NonZeroU32, String> {
    let number = text.strip_prefix("1/").and_then(|number| number.parse::<NonZeroU32>().ok());
    number
        .filter(|number| number.get() <= MOST)
        .ok_or_else(|| format!("write 1/N, with N from 1 to {MOST}: 1/100 is one in a hundred packets"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_one_in_n() {
        assert_eq!(one_in("1/100").map(NonZeroU32::get), Ok(100));
        assert_eq!(one_in("1/1").map(NonZeroU32::get), Ok(1));
        for text in ["100", "1/0", "2/100", "1/", "1/-5", "1/1000001", "0.01", "1/1.5", ""] {
            assert!(one_in(text).is_err_and(|error| error.starts_with("write 1/N")), "{text}");
        }
    }
}
