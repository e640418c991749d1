//! Network namespaces: opening, entering, creating, deleting and finding them.
//!
//! A namespace is a property of a thread, and a runtime's worker thread serves many tasks. So nothing here changes the
//! namespace of the caller's thread: work runs in a new thread that enters the namespace first and ends with the work.

mod enter;
mod find;
mod named;
mod root;

pub use enter::{Netns, netlink_here, run_in};
pub use find::{Found, Place, candidates, processes_in};
pub use named::{create, delete, named_path};
pub use root::{in_first_netns, node_root};
