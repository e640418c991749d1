//! Network namespaces: opening, entering, making, removing and finding them.
//!
//! A namespace belongs to a thread, and a runtime's worker thread serves many tasks. So nothing here changes the
//! namespace of the caller's thread: work is run in a thread of its own that enters the namespace first and ends
//! with the work.

mod enter;
mod find;
mod named;
mod root;

pub use enter::{Netns, netlink_here, run_in};
pub use find::{Found, candidates, processes_in};
pub use named::{create, delete, named_path};
pub use root::{in_first_netns, node_root};
