//! A trace from beginning to end: agents are started, their frames feed the path engine, finished paths go to a
//! report. Reading a recording (`podtrace_report::replay`) is the same without agents.

mod agents;
mod ask;
mod changes;
mod claims;
mod configured;
mod connection;
mod follow;
mod hooks;
mod interrupts;
mod lifecycle;
mod live;
mod plan;
mod survey;
mod trace;

pub use plan::{Followed, Plan, ProbePlan};
pub use survey::survey;
pub use trace::{Progress, Watch, trace};
