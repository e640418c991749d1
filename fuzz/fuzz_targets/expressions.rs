//! Expectations and filters, as text of any kind.
#![no_main]

use libfuzzer_sys::fuzz_target;
use podtrace_report::expect::Expectation;
use podtrace_report::filter::Filter;

fuzz_target!(|text: &str| {
    if let Err(error) = text.parse::<Expectation>() {
        let _ = error.to_string();
    }
    match text.parse::<Filter>() {
        Ok(filter) => assert_eq!(filter.to_string().parse::<Filter>(), Ok(filter)),
        Err(error) => drop(error.to_string()),
    }
});
