//! Kernel addresses to function names, from /proc/kallsyms.

use anyhow::{Context as _, Result};

/// The kernel's functions by address.
#[derive(Debug, Default)]
pub struct Symbols(Vec<(u64, String)>);

impl Symbols {
    /// Reads the running kernel's symbols.
    ///
    /// # Errors
    ///
    /// If /proc/kallsyms cannot be read.
    pub fn read() -> Result<Self> {
        Ok(Self::parse(&std::fs::read_to_string("/proc/kallsyms").context("reading /proc/kallsyms")?))
    }

    /// Takes the text symbols from kallsyms' format, `address type name [module]` a line.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut symbols: Vec<_> = text
            .lines()
            .filter_map(|line| {
                let mut words = line.split_ascii_whitespace();
                let address = u64::from_str_radix(words.next()?, 16).ok()?;
                let kind = words.next()?;
                let name = words.next()?;
                // Address 0: hidden by kptr_restrict.
                (address != 0 && matches!(kind, "t" | "T" | "w" | "W")).then(|| (address, name.to_owned()))
            })
            .collect();
        symbols.sort_unstable();
        Self(symbols)
    }

    /// The function that an address lies in. `None` if no symbol lies at or below it.
    #[must_use]
    pub fn name(&self, address: u64) -> Option<&str> {
        let above = self.0.partition_point(|(start, _)| *start <= address);
        self.0.get(above.checked_sub(1)?).map(|(_, name)| name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_belongs_to_the_function_below_it() {
        let symbols = Symbols::parse(
            "ffffffff81000020 T ip_forward\nffffffff81000000 t _text\nffffffff81000100 t br_handle_frame\t[bridge]\n\
             0000000000000000 T hidden\nffffffff81000080 D data\nnonsense\n",
        );
        assert_eq!(symbols.name(0xffff_ffff_8100_0020), Some("ip_forward"));
        assert_eq!(symbols.name(0xffff_ffff_8100_0090), Some("ip_forward"));
        assert_eq!(symbols.name(0xffff_ffff_8100_0fff), Some("br_handle_frame"));
        assert_eq!(symbols.name(0x10), None);
    }
}
