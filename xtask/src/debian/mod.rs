//! Debian packages that are fetched and not installed: this machine's own packages, and what runs on it, stay as they are.

mod host;
mod private_apt;

pub(crate) use host::Host;
pub(crate) use private_apt::{PrivateApt, Repository, unpack};
