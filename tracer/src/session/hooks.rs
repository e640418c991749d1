//! Reports which hooks a node has: with `-v` each one; to everybody what is missing or worse than it could be, in one
//! line for all that are alike.

use std::collections::{BTreeMap, BTreeSet};

use tracing::{info, warn};

use podtrace_protocol::frame::{Attached, HookState};
use podtrace_protocol::hook::{COPIES, Hook};

/// Notes that several nodes have: each is reported once, also if nodes join later.
#[derive(Debug, Default)]
pub(super) struct Notes {
    waiting: BTreeMap<String, Vec<String>>,
    reported: BTreeSet<String>,
}

impl Notes {
    fn add(&mut self, node: &str, note: String) {
        self.waiting.entry(note).or_default().push(node.to_owned());
    }

    /// Reports them, once all nodes have been added.
    pub(super) fn report(&mut self) {
        for (note, mut nodes) in std::mem::take(&mut self.waiting) {
            nodes.sort();
            let nodes = nodes.join(", ");
            if self.reported.contains(&note) {
                detail!("{nodes}: {note}");
            } else {
                info!("{nodes}: {note}");
                self.reported.insert(note);
            }
        }
    }
}

/// Reports what was attached on a node, and adds what others may have as well.
pub(super) fn report(node: &str, attached: &Attached, notes: &mut Notes) {
    for note in &attached.notes {
        notes.add(node, note.clone());
    }
    let (stack, others): (Vec<_>, Vec<_>) = attached.hooks.iter().partition(|hook| is_stack(hook));
    let mut alike = BTreeMap::<_, Vec<String>>::new();
    for hook in others {
        let place =
            hook.device.as_deref().map_or(hook.point.clone(), |device| format!("{device} {}", hook.point));
        if let (Some(how), None) = (&hook.mechanism, &hook.note) {
            detail!("{node}: {place}: {how}{}", size(hook));
        } else {
            alike.entry((hook.mechanism, hook.note.as_deref())).or_default().push(place);
        }
    }
    for ((how, note), places) in alike {
        let places = places.join(", ");
        let note = note.unwrap_or("for an unknown reason");
        match how {
            Some(how) => info!("{node}: attached with {how} ({note}): {places}"),
            None => warn!("{node}: not attached, hops are missing here ({note}): {places}"),
        }
    }
    report_stack(node, &stack, notes);
}

/// Reports which functions of the network stack are hooked: what the others would have seen is inferred.
fn report_stack(node: &str, hooks: &[&HookState], notes: &mut Notes) {
    let mut absent = BTreeMap::<&str, Vec<&str>>::new();
    for hook in hooks {
        match &hook.mechanism {
            Some(how) => detail!("{node}: {}: {how}{}", hook.point, size(hook)),
            None => absent.entry(hook.note.as_deref().unwrap_or_default()).or_default().push(function(hook)),
        }
    }
    let none = !hooks.is_empty() && hooks.iter().all(|hook| hook.mechanism.is_none());
    for (note, functions) in absent {
        // One line for a kernel that has none of it; which function is missing on another is for the curious.
        let functions =
            if none && functions.len() > 3 { String::new() } else { format!(": {}", functions.join(", ")) };
        if none {
            notes.add(node, format!("hops inside the network stack are inferred ({note}){functions}"));
        } else {
            detail!("{node}: inferred ({note}){functions}");
        }
    }
}

/// Whether this is a hook of a function of the network stack, without which hops are inferred and none is missing.
fn is_stack(hook: &HookState) -> bool {
    let function = function(hook);
    !hook.point.starts_with("tp:") && (Hook::named(function).is_some() || COPIES.contains(&function))
}

fn function(hook: &HookState) -> &str {
    hook.point.rsplit_once(':').map_or(&hook.point, |(_, function)| function)
}

fn size(hook: &HookState) -> String {
    hook.instructions.map_or_else(String::new, |count| format!(", {count} instructions verified"))
}
