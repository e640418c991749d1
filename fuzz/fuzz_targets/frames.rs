//! What an agent and a tracer say to one another, as bytes of any kind.
#![no_main]

use libfuzzer_sys::fuzz_target;
use podtrace_protocol::codec::{read_raw, write_raw};
use podtrace_protocol::frame::{FromAgent, ToAgent};
use podtrace_protocol::record::{Records, shorten};

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    while let Ok(Some(raw)) = read_raw(&mut rest) {
        let _ = ToAgent::from_raw(&raw);
        let Ok(frame) = FromAgent::from_raw(raw) else { continue };
        if let FromAgent::Events(body) = &frame {
            let records = Records::new(body).count();
            assert_eq!(Records::new(&shorten(body, 64)).count(), records);
        }
        let mut again = Vec::new();
        write_raw(&mut again, &frame.to_raw()).expect("what was read can be written");
        let read = read_raw(&mut again.as_slice()).expect("and read").expect("again");
        assert_eq!(FromAgent::from_raw(read).expect("as it was"), frame);
    }
});
