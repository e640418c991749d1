//! The processors that podtrace is built for, and what each is called where.

use clap::ValueEnum;

/// A processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Architecture {
    /// Intel's and AMD's, 64 bits.
    #[value(name = "x86_64")]
    X86_64,
    /// ARM's, 64 bits, little-endian.
    #[value(name = "aarch64")]
    Aarch64,
}

impl Architecture {
    /// All of them.
    pub(crate) const ALL: [Self; 2] = [Self::X86_64, Self::Aarch64];

    /// This machine's; nothing if it is none of these.
    pub(crate) fn of_this_machine() -> Option<Self> {
        Self::ALL.into_iter().find(|this| this.name() == std::env::consts::ARCH)
    }

    /// What Rust, Linux and RPM call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// What Debian, Go and images call it.
    pub(crate) fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// Rust's target for programs without shared libraries.
    pub(crate) fn musl(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-musl",
            Self::Aarch64 => "aarch64-unknown-linux-musl",
        }
    }

    /// The C compiler, which links too, and Debian's package of it.
    pub(crate) fn compiler(self) -> (&'static str, &'static str) {
        match self {
            // Its plain name is what a user has who has any compiler.
            this if Some(this) == Self::of_this_machine() => ("cc", "gcc"),
            Self::X86_64 => ("x86_64-linux-gnu-gcc", "gcc-x86-64-linux-gnu"),
            Self::Aarch64 => ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_on_the_command_line_are_those_of_rust() {
        for architecture in Architecture::ALL {
            assert_eq!(Architecture::from_str(architecture.name(), false), Ok(architecture));
            assert!(architecture.musl().starts_with(architecture.name()));
        }
    }
}
