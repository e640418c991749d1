//! How long a frame from an agent may be, by its kind. A node that is taken over may send anything.

use std::io::{self, ErrorKind};

use super::frame::{FromAgent, MAX_FRAME};

/// Bytes of most control frames.
const SMALL: usize = 64 << 10;
/// Bytes of events: agents send a quarter of it.
const EVENTS: usize = 1 << 20;
/// Bytes of a message for the user, which is cut there.
const TEXT: usize = 1_000;
/// Ends a message that was cut.
const CUT: &str = "… (cut)";

impl FromAgent {
    /// The frame with its messages cut, if it is no longer than its kind may be.
    pub(crate) fn within_limits(mut self, length: usize) -> io::Result<Self> {
        let limit = match &self {
            Self::Events(_) => EVENTS,
            // What a node has many of, and what is cut.
            Self::Topology(_)
            | Self::NetworkChanged(_)
            | Self::Rules(_)
            | Self::Attached(_)
            | Self::Updated(_)
            | Self::Symbols(_)
            | Self::Stats(_)
            | Self::Warning { .. }
            | Self::Failed { .. } => MAX_FRAME as usize,
            Self::Hello(_)
            | Self::Started
            | Self::NetworkChanging
            | Self::NetworkUnchanged
            | Self::ConntrackStats(_)
            | Self::Heartbeat { .. }
            | Self::Clock { .. }
            | Self::Probed { .. }
            | Self::Goodbye { .. } => SMALL,
        };
        if length > limit {
            let message = format!("a frame of {length} bytes is longer than its kind may be ({limit})");
            return Err(io::Error::new(ErrorKind::InvalidData, message));
        }
        self.cut_messages();
        Ok(self)
    }

    fn cut_messages(&mut self) {
        match self {
            Self::Warning { text } => cut(text),
            Self::Failed { error } => cut(error),
            Self::Probed { error: Some(error), .. } => cut(error),
            Self::Attached(attached) => {
                attached.notes.iter_mut().for_each(cut);
                attached.hooks.iter_mut().filter_map(|hook| hook.note.as_mut()).for_each(cut);
            }
            Self::Updated(updated) => {
                updated.error.iter_mut().for_each(cut);
                updated.hooks.iter_mut().filter_map(|hook| hook.note.as_mut()).for_each(cut);
            }
            _ => {}
        }
    }
}

fn cut(text: &mut String) {
    if text.len() > TEXT {
        let end = (0..=TEXT).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or_default());
        text.push_str(CUT);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::codec::RawFrame;
    use crate::frame::{Attached, Hello, HookState};

    fn received(frame: &FromAgent) -> io::Result<FromAgent> {
        FromAgent::from_raw(frame.to_raw())
    }

    #[test]
    fn a_message_is_cut_between_characters() {
        let whole = FromAgent::Warning { text: "é".repeat(TEXT / 2) };
        assert_eq!(received(&whole).unwrap(), whole);
        let FromAgent::Warning { text } =
            received(&FromAgent::Warning { text: "aé".repeat(5 << 20) }).unwrap()
        else {
            unreachable!()
        };
        assert!(text.len() <= TEXT + CUT.len() && text.ends_with(&format!("a{CUT}")), "{text}");
    }

    #[test]
    fn notes_of_hooks_are_cut() {
        let long = || "x".repeat(2 * TEXT);
        let hook = HookState { note: Some(long()), ..HookState::absent("tc:ingress") };
        let attached = Attached { hooks: vec![hook], notes: vec![long()], ..Attached::default() };
        let FromAgent::Attached(attached) = received(&FromAgent::Attached(attached)).unwrap() else {
            unreachable!()
        };
        assert!(attached.notes[0].ends_with(CUT));
        assert!(attached.hooks[0].note.as_ref().unwrap().ends_with(CUT));
    }

    #[test]
    fn a_frame_longer_than_its_kind_may_be_is_an_error() {
        let hello = Hello { version: "x".repeat(SMALL), ..Hello::default() };
        let error = received(&FromAgent::Hello(hello)).unwrap_err().to_string();
        assert!(error.contains("longer than its kind may be"), "{error}");
        received(&FromAgent::Events(Bytes::from(vec![0; EVENTS]))).unwrap();
        received(&FromAgent::Events(Bytes::from(vec![0; EVENTS + 1]))).unwrap_err();
        // Spaces count: JSON may have any number of them.
        let mut body = b"\"started\"".to_vec();
        body.resize(SMALL + 1, b' ');
        FromAgent::from_raw(RawFrame { kind: crate::frame::KIND_JSON, body: body.into() }).unwrap_err();
    }
}
