//! Maps kernel addresses to function names, by /proc/kallsyms.

use std::ops::Range;

use anyhow::{Context as _, Result};

/// The kernel's functions by address.
#[derive(Debug, Default)]
pub struct Symbols {
    /// All of kallsyms. With some 200,000 lines, copying each name would take longer than reading them.
    text: String,
    /// Address and name (as a range of `text`) of each function, ascending by address.
    functions: Vec<(u64, Range<usize>)>,
}

impl Symbols {
    /// Reads the running kernel's symbols. This takes a few tenths of a second.
    ///
    /// # Errors
    ///
    /// If /proc/kallsyms cannot be read.
    pub fn read() -> Result<Self> {
        Ok(Self::parse(std::fs::read_to_string("/proc/kallsyms").context("reading /proc/kallsyms")?))
    }

    /// Parses kallsyms, lines of `ADDRESS TYPE NAME [MODULE]`, and keeps the functions.
    #[must_use]
    pub fn parse(text: String) -> Self {
        let mut functions = Vec::new();
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            functions.extend(
                function(line).map(|(address, name)| (address, start + name.start..start + name.end)),
            );
            start += line.len();
        }
        functions.sort_unstable_by_key(|(address, name)| (*address, name.start));
        Self { text, functions }
    }

    /// The function that contains an address: the last one that starts at or below it. `None` if there is none.
    #[must_use]
    pub fn name(&self, address: u64) -> Option<&str> {
        let above = self.functions.partition_point(|(start, _)| *start <= address);
        let (_, name) = self.functions.get(above.checked_sub(1)?)?;
        self.text.get(name.clone())
    }
}

/// Address and range of the name, if the line is about a function.
fn function(line: &str) -> Option<(u64, Range<usize>)> {
    let (address, rest) = line.split_once(' ')?;
    let (kind, rest) = rest.split_once(' ')?;
    let start = line.len() - rest.len();
    let len = rest.find(char::is_whitespace).unwrap_or(rest.len());
    let address = u64::from_str_radix(address, 16).ok()?;
    // kptr_restrict shows every address as 0.
    (address != 0 && matches!(kind, "t" | "T" | "w" | "W")).then_some((address, start..start + len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_belongs_to_the_function_below_it() {
        let symbols = Symbols::parse(
            "ffffffff81000020 T ip_forward\nffffffff81000000 t _text\nffffffff81000100 t br_handle_frame\t[bridge]\n\
             0000000000000000 T hidden\nffffffff81000080 D data\nnonsense\n"
                .to_owned(),
        );
        assert_eq!(symbols.name(0xffff_ffff_8100_0020), Some("ip_forward"));
        assert_eq!(symbols.name(0xffff_ffff_8100_0090), Some("ip_forward"));
        assert_eq!(symbols.name(0xffff_ffff_8100_0fff), Some("br_handle_frame"));
        assert_eq!(symbols.name(0x10), None);
    }
}
