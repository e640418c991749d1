//! Encodes and decodes frames, over any `Read` and `Write`. For the layout see [`crate::frame`].
//!
//! # Examples
//!
//! ```
//! use podtrace_protocol::codec::{read_raw, write_raw};
//! use podtrace_protocol::frame::{FromAgent, Hello, PROTOCOL_VERSION};
//!
//! let hello = FromAgent::Hello(Hello { protocol: PROTOCOL_VERSION, kernel: "6.12.48".into(), ..Hello::default() });
//! let mut stream = Vec::new();
//! write_raw(&mut stream, &hello.to_raw())?;
//!
//! let mut stream = stream.as_slice();
//! let frame = read_raw(&mut stream)?.expect("one frame");
//! assert_eq!(FromAgent::from_raw(frame)?, hello);
//! assert_eq!(read_raw(&mut stream)?, None);
//! # Ok::<(), std::io::Error>(())
//! ```

use std::io::{self, ErrorKind, Read, Write};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::frame::{FromAgent, KIND_EVENTS, KIND_JSON, MAX_FRAME, ToAgent};

/// An encoded frame, without its length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawFrame {
    /// [`KIND_JSON`] or [`KIND_EVENTS`].
    pub kind: u8,
    /// The bytes after the kind.
    pub body: Bytes,
}

/// Writes one frame.
///
/// # Errors
///
/// If writing fails, or the body is longer than [`MAX_FRAME`].
pub fn write_raw(to: &mut impl Write, frame: &RawFrame) -> io::Result<()> {
    let len = u32::try_from(frame.body.len() + 1).ok().filter(|len| *len <= MAX_FRAME);
    let len = len
        .ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "cannot send a frame of more than 16 MiB"))?;
    to.write_all(&len.to_le_bytes())?;
    to.write_all(&[frame.kind])?;
    to.write_all(&frame.body)
}

/// Reads one frame; `None` at the end of the stream between two frames.
///
/// # Errors
///
/// If reading fails, the stream ends within a frame, or the length is 0 or above [`MAX_FRAME`].
pub fn read_raw(from: &mut impl Read) -> io::Result<Option<RawFrame>> {
    let mut len = [0; 4];
    match from.read(&mut len[..1])? {
        0 => return Ok(None),
        _ => from.read_exact(&mut len[1..])?,
    }
    let len = u32::from_le_bytes(len);
    if len == 0 || len > MAX_FRAME {
        // Usually text instead of a frame: a shell's greeting, a message from sudo, another program.
        let message = format!("invalid frame length {len}: the output is not from podtrace's agent");
        return Err(io::Error::new(ErrorKind::InvalidData, message));
    }
    let mut kind = [0];
    from.read_exact(&mut kind)?;
    // Grows as bytes arrive, so a wrong length does not allocate memory.
    let mut body = Vec::new();
    from.take(u64::from(len - 1)).read_to_end(&mut body)?;
    if body.len() != len as usize - 1 {
        return Err(io::Error::new(ErrorKind::UnexpectedEof, "the stream ends within a frame"));
    }
    Ok(Some(RawFrame { kind: kind[0], body: body.into() }))
}

impl FromAgent {
    /// Encodes the frame.
    #[must_use]
    pub fn to_raw(&self) -> RawFrame {
        match self {
            Self::Events(events) => RawFrame { kind: KIND_EVENTS, body: events.clone() },
            control => json(control),
        }
    }

    /// Decodes a frame.
    ///
    /// # Errors
    ///
    /// If this version does not know the kind, the JSON is not one of its frames, or the frame is longer than one of its
    /// kind may be.
    pub fn from_raw(raw: RawFrame) -> io::Result<Self> {
        let length = raw.body.len();
        let frame = match raw.kind {
            KIND_EVENTS => Self::Events(raw.body),
            _ => from_json(&raw)?,
        };
        frame.within_limits(length)
    }
}

impl ToAgent {
    /// Encodes the frame.
    #[must_use]
    pub fn to_raw(&self) -> RawFrame {
        json(self)
    }

    /// Decodes a frame.
    ///
    /// # Errors
    ///
    /// If this version does not know the kind, or the JSON is not one of its frames.
    pub fn from_raw(raw: &RawFrame) -> io::Result<Self> {
        from_json(raw)
    }
}

fn json(frame: &impl Serialize) -> RawFrame {
    // Serializing to memory fails only for map keys that are neither strings nor integers, and there are none.
    RawFrame { kind: KIND_JSON, body: serde_json::to_vec(frame).unwrap_or_default().into() }
}

fn from_json<T: DeserializeOwned>(raw: &RawFrame) -> io::Result<T> {
    if raw.kind != KIND_JSON {
        return Err(io::Error::new(ErrorKind::InvalidData, format!("unknown kind of frame: {}", raw.kind)));
    }
    serde_json::from_slice(&raw.body).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Accounting, Configuration, Hello, HookState, PodAddresses, Updated};

    fn frames() -> Vec<FromAgent> {
        vec![
            FromAgent::Hello(Hello { protocol: 1, kernel: "6.18 \"x\"\n".to_owned(), ..Hello::default() }),
            FromAgent::Events(Bytes::from_static(&[0, 1, 2, 255])),
            FromAgent::Events(Bytes::new()),
            FromAgent::Symbols([(0xffff_ffff_8100_0000, "ip_forward".to_owned())].into()),
            FromAgent::Updated(Updated {
                update_id: 5,
                at_ns: 7,
                hooks: vec![HookState::absent("tc:ingress")],
                missing_pods: vec!["default/pod1".to_owned()],
                error: None,
            }),
            FromAgent::Goodbye { counters: Accounting { produced: u64::MAX, ..Accounting::default() } },
        ]
    }

    #[test]
    fn frames_from_an_agent_survive_encoding() {
        let mut stream = Vec::new();
        for frame in frames() {
            write_raw(&mut stream, &frame.to_raw()).unwrap();
        }
        let mut rest = stream.as_slice();
        for frame in frames() {
            assert_eq!(FromAgent::from_raw(read_raw(&mut rest).unwrap().unwrap()).unwrap(), frame);
        }
        assert_eq!(read_raw(&mut rest).unwrap(), None);
    }

    #[test]
    fn frames_to_an_agent_survive_encoding() {
        let pod = PodAddresses { pod: "default/pod1".to_owned(), ips: vec!["10.42.0.17".parse().unwrap()] };
        let tapped_pods = vec![pod.pod.clone()];
        let configuration = Configuration { pods: vec![pod], tapped_pods, ..Configuration::default() };
        let update = ToAgent::Update { at_ns: 5, configuration };
        for frame in
            [update, ToAgent::Start { nat_addresses: vec!["fd00::1".parse().unwrap()] }, ToAgent::Stop]
        {
            assert_eq!(ToAgent::from_raw(&frame.to_raw()).unwrap(), frame);
        }
    }

    #[test]
    fn a_stream_cut_within_a_frame_is_an_error() {
        let mut stream = Vec::new();
        write_raw(&mut stream, &frames()[0].to_raw()).unwrap();
        for cut in 1..stream.len() {
            assert!(read_raw(&mut &stream[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn text_is_rejected_as_a_frame() {
        let error = read_raw(&mut b"Last login: Sun Nov 22\n".as_slice()).unwrap_err();
        assert!(error.to_string().contains("not from podtrace's agent"), "{error}");
    }
}
