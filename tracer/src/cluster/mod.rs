//! WHO is meant: endpoints, pods, services and nodes, and where they are looked up.

mod inventory;

pub use inventory::{Inventory, Node, Pod, Run, Service, ServicePort};
