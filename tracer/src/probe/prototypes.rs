//! Which argument of each hooked function is the packet, read from the functions' prototypes in BTF.
//!
//! Kernel versions differ in the order of arguments. BTF of a module is in a file of its own, from 5.11 on and only
//! while the module is loaded; without it the positions in the table of hooks apply.

use std::collections::BTreeMap;
use std::path::Path;

use podtrace_protocol::hook::{COPIES, HOOKS, Other};
use tracer_common::{Arguments, NO_ARGUMENT};

use super::btf::Btf;

/// The directory with the BTF of each module, beside the kernel's own.
const BTF_DIRECTORY: &str = "/sys/kernel/btf";

/// A function's arguments: the name of the struct that each points to, empty for any other.
type Prototype = Vec<String>;

/// What BTF says about the functions to hook.
#[derive(Debug)]
pub(super) struct Prototypes {
    /// Functions of the kernel proper, not of a module: fentry can hook these.
    built_in: Vec<&'static str>,
    /// Argument positions by hook number.
    pub(super) arguments: Arguments,
}

impl Prototypes {
    /// Looks the functions up in the kernel's BTF and in that of its loaded modules.
    pub(super) fn read(kernel: &Btf<'_>) -> Self {
        let names: Vec<&str> = HOOKS.iter().map(|hook| hook.function).chain(COPIES).collect();
        let mut found = kernel.arguments(&names);
        let built_in = names.into_iter().filter(|name| found.contains_key(name)).collect();
        let mut modules: Vec<_> = HOOKS.iter().filter_map(|hook| hook.module).collect();
        modules.dedup();
        for module in modules {
            let Ok(bytes) = std::fs::read(Path::new(BTF_DIRECTORY).join(module)) else { continue };
            let Ok(btf) = Btf::parse_module(&bytes, kernel) else { continue };
            let of_module = HOOKS.iter().filter(|hook| hook.module == Some(module));
            let names: Vec<_> =
                of_module.map(|hook| hook.function).filter(|name| !found.contains_key(name)).collect();
            found.extend(btf.arguments(&names));
        }
        Self { built_in, arguments: positions(&found) }
    }

    /// Whether fentry and fexit can hook the function.
    pub(super) fn is_built_in(&self, function: &str) -> bool {
        self.built_in.contains(&function)
    }
}

fn positions(found: &BTreeMap<&str, Prototype>) -> Arguments {
    let mut positions = Arguments::NONE;
    for hook in &HOOKS {
        let number = usize::from(hook.number);
        let prototype = found.get(hook.function);
        positions.skb[number] = position(prototype, "sk_buff", hook.skb);
        positions.other[number] = match hook.other {
            Other::Nothing => NO_ARGUMENT,
            Other::Pointer(to, otherwise) => position(prototype, to, otherwise),
            Other::Value(argument) => argument,
        };
    }
    positions
}

/// The position of the argument that points to a struct. A known prototype without such an argument means that the
/// function changed: its program then ignores every call.
fn position(prototype: Option<&Prototype>, to: &str, otherwise: u8) -> u8 {
    let Some(arguments) = prototype else { return otherwise };
    let position = arguments.iter().position(|argument| argument == to);
    position.and_then(|position| u8::try_from(position).ok()).unwrap_or(NO_ARGUMENT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use podtrace_protocol::hook::Hook;

    fn number(function: &str) -> usize {
        usize::from(Hook::named(function).unwrap().number)
    }

    #[test]
    fn positions_come_from_the_prototype_or_else_from_the_table() {
        let arguments = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let found = BTreeMap::from([
            ("ip_forward", arguments(&["net", "sk_buff"])),
            ("ip_rcv_core", arguments(&["net"])),
        ]);
        let positions = positions(&found);
        assert_eq!(positions.skb[number("ip_forward")], 1);
        assert_eq!(positions.skb[number("ip_rcv_core")], NO_ARGUMENT);
        assert_eq!(positions.skb[number("ip_output")], 2);
        assert_eq!(positions.other[number("nf_hook_slow")], 1);
    }
}
