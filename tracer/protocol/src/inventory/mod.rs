//! A cluster's nodes, pods and Services, and the endpoints that users name.
//!
//! An [`Inventory`] comes from the Kubernetes API, from the lab, or from a YAML file ([`load()`]). [`resolve()`] looks up
//! an [`Endpoint`] in it and returns addresses, ports, pods and nodes, or an error that says what to do. [`Delta`] is the
//! change from one inventory to the next while a trace runs.
//!
//! # Examples
//!
//! ```
//! use podtrace_protocol::inventory::{Endpoint, parse, resolve};
//!
//! let inventory = parse(
//!     "nodes:
//!  - {name: node1, addresses: [192.168.56.11]}
//! pods:
//!  - {name: pod1, ips: [10.42.0.10], node: node1}
//!  - {name: pod2, ips: [10.42.0.11], node: node1}
//! ",
//! )
//! .map_err(|(place, what)| format!("{place}{what}"))?;
//!
//! let endpoint: Endpoint = "pod1".parse()?;
//! let pod = resolve(&endpoint, &inventory, "default")?;
//! assert_eq!(pod.what, "default/pod1");
//! assert_eq!(pod.addresses, ["10.42.0.10".parse::<std::net::IpAddr>()?]);
//! assert_eq!(pod.nodes, ["node1"]);
//!
//! let error = resolve(&"pod3".parse()?, &inventory, "default").unwrap_err().to_string();
//! assert!(error.contains("pod1"), "the nearest names are suggested: {error}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod check;
mod delta;
mod endpoint;
mod load;
mod model;
mod nearest;
mod resolve;
mod resolve_error;
mod resolve_pods;
mod selector;
mod workload;

pub use check::is_name;
pub use delta::Delta;
pub use endpoint::{Endpoint, InvalidEndpoint, Port};
pub use load::{LoadError, load, parse};
pub use model::{Inventory, Node, Pod, Run, Service, ServicePort, Untraceable, WhyUntraceable};
pub use nearest::nearest_text;
pub use resolve::{Resolved, resolve};
pub use resolve_error::ResolveError;
pub use resolve_pods::{locate, present};
pub use selector::{InvalidSelector, Selector};
pub use workload::Workload;
