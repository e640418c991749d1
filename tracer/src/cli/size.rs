//! Sizes as typed: `500k`, `100M` or `2G`.

use podtrace_path::LEAST_MEMORY;

/// Parses a number of bytes.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1_000),
        None => match (text.strip_suffix('M'), text.strip_suffix('G')) {
            (Some(digits), _) => (digits, 1_000_000),
            (None, Some(digits)) => (digits, 1_000_000_000),
            (None, None) => (text, 1),
        },
    };
    let size = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    size.ok_or_else(|| "expected a size such as 500k, 100M or 2G".to_owned())
}

/// Parses the value of `--max-memory`.
pub(super) fn memory(text: &str) -> Result<u64, String> {
    match bytes(text)? {
        size if size < LEAST_MEMORY => {
            Err(format!("expected a size of at least {}M", LEAST_MEMORY / 1_000_000))
        }
        size => Ok(size),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_limit_is_not_too_small() {
        assert_eq!((memory("16M"), memory("2G")), (Ok(16_000_000), Ok(2_000_000_000)));
        for text in ["15M", "0", "", "x", "-1G"] {
            assert!(memory(text).is_err(), "{text}");
        }
    }
}
