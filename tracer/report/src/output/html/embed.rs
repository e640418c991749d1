//! JSON within a page: no text in it can end the element that holds it.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

/// Writes `data` so that the HTML parser sees nothing but text.
pub(super) fn write(out: &mut Vec<u8>, data: &impl Serialize) -> io::Result<()> {
    data.serialize(&mut Serializer::with_formatter(out, Embedded))?;
    Ok(())
}

/// Compact JSON whose strings have no angle brackets: `</script>` and `<!--` would mean something to the parser around
/// them. Written as `\u….` they read back as what they were.
struct Embedded;

impl Formatter for Embedded {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        for piece in fragment.split_inclusive(['<', '>']) {
            let (plain, bracket) = match piece.char_indices().next_back() {
                Some((at, '<')) => (&piece[..at], "\\u003c"),
                Some((at, '>')) => (&piece[..at], "\\u003e"),
                _ => (piece, ""),
            };
            CompactFormatter.write_string_fragment(writer, plain)?;
            writer.write_all(bracket.as_bytes())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_are_written_as_numbers_and_read_back() {
        for text in ["", "plain", "<", ">>", "a<b>c", "</script>", "<!-- \"é\" -->", "\\u003c"] {
            let mut out = Vec::new();
            write(&mut out, &[text, text]).unwrap();
            let json = String::from_utf8(out).unwrap();
            assert!(!json.contains(['<', '>']), "{json}");
            assert_eq!(serde_json::from_str::<[String; 2]>(&json).unwrap(), [text, text]);
        }
    }
}
