//! The fault suite: each way in which a pod network breaks, what podtrace reports of it, and how true that is.
//!
//! 1. `data` reads `tests/faults/*.yaml`: how to break a lab, and what the right answer is (`faults/README.md`).
//! 2. `run` breaks a lab of its own, traces in it, and reads the recording again as JSON.
//! 3. `judge` compares: is the place right, is the cause named, which sentences are false.
//! 4. `doctor` lets `podtrace doctor` look at it instead, and compares what is found.
//! 5. `score` adds up, and `table` prints it.

pub mod advised;
pub mod claims;
pub mod data;
pub mod doctor;
pub mod judge;
pub mod names;
pub mod run;
pub mod score;
pub mod suite;
pub mod table;
