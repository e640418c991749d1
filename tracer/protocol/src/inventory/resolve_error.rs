//! Why an endpoint cannot be traced.

/// Why an endpoint cannot be traced. Each message is one line that says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// No object has the name.
    #[error("there is no {kind} {name}; {near}")]
    Unknown {
        /// `pod`, `service`, `node` or `namespace`.
        kind: &'static str,
        /// The name, with its namespace.
        name: String,
        /// Similar names.
        near: String,
    },
    /// The pod has no address.
    #[error(
        "pod {pod} has no IP address yet: wait until it runs (`kubectl get pod -o wide`), then try again"
    )]
    NoAddress {
        /// `NAMESPACE/NAME`.
        pod: String,
    },
    /// The pod has no node.
    #[error(
        "pod {pod} has no node yet{}: wait until it runs (`kubectl describe pod` says more), then try again",
        .message.as_ref().map(|message| format!(" ({message})")).unwrap_or_default()
    )]
    Unscheduled {
        /// `NAMESPACE/NAME`.
        pod: String,
        /// The scheduler's message.
        message: Option<String>,
    },
    /// The pod has succeeded or failed.
    #[error("pod {pod} has completed and has no network any more: choose one that runs")]
    Completed {
        /// `NAMESPACE/NAME`.
        pod: String,
    },
    /// The pod has no network of its own.
    #[error("pod {pod} is on the host network and shares node {node}'s addresses: use node/{node}")]
    HostNetwork {
        /// `NAMESPACE/NAME`.
        pod: String,
        /// Its node.
        node: String,
    },
    /// The pod's node is not in the inventory.
    #[error("pod {pod} is on node {node}, which the inventory does not list; {near}")]
    UnknownNode {
        /// `NAMESPACE/NAME`.
        pod: String,
        /// Its node.
        node: String,
        /// Similar names.
        near: String,
    },
    /// The Service has no address at all.
    #[error(
        "service {service} has no cluster IP and no endpoints, so no packet can reach it: check its selector"
    )]
    EmptyService {
        /// `NAMESPACE/NAME`.
        service: String,
    },
    /// The Service stands for a name outside of the cluster.
    #[error(
        "service {service} stands for {target} outside of the cluster (ExternalName): look up its address and use \
         that, as IP[:PORT]"
    )]
    ExternalName {
        /// `NAMESPACE/NAME`.
        service: String,
        /// That name.
        target: String,
    },
    /// The Service does not have the port.
    #[error("service {service} has no port {port}; it has {ports}")]
    NoSuchPort {
        /// `NAMESPACE/NAME`.
        service: String,
        /// The port, by number or name.
        port: String,
        /// The ports that it has.
        ports: String,
    },
    /// No pod belongs to it.
    #[error("there is no {kind} {name} with pods; {near}")]
    NoPods {
        /// `deployment`, `daemonset`, ….
        kind: &'static str,
        /// `NAMESPACE/NAME`.
        name: String,
        /// Similar names.
        near: String,
    },
    /// No pod has the labels.
    #[error(
        "no pod {place} has labels that match {selector}; `kubectl get pods {option} --show-labels` shows them"
    )]
    NoLabels {
        /// `in namespace NAME`, `of the cluster`.
        place: String,
        /// As typed.
        selector: String,
        /// The option that names the place.
        option: String,
    },
    /// There is no pod.
    #[error("there is no pod {place}")]
    NoPodsAtAll {
        /// `in namespace NAME`, `of the cluster`.
        place: String,
    },
    /// All its pods share their nodes' network namespaces.
    #[error("the pods of {name} are on the host network and share their nodes' addresses: use node/NAME")]
    OnHostNetwork {
        /// What was asked for.
        name: String,
    },
    /// None of its pods has an address.
    #[error("no pod of {name} has an IP address yet: wait until one runs, then try again")]
    NoAddresses {
        /// What was asked for.
        name: String,
    },
    /// The name is in several namespaces.
    #[error("{kind} {name} is in several namespaces ({namespaces}): write which, as in {example}")]
    Ambiguous {
        /// `pod`, `service`, ….
        kind: &'static str,
        /// Without a namespace.
        name: String,
        /// All that have it.
        namespaces: String,
        /// One of them, as an endpoint.
        example: String,
    },
    /// Ends of one side differ in ports.
    #[error(
        "{one} and {other} have different ports, and the ends of one side have them in common: leave the ports out, and \
         give --port, or a filter such as 'tcp port 80 or tcp port 443'"
    )]
    DifferentPorts {
        /// One end.
        one: String,
        /// The other.
        other: String,
    },
    /// The node has no address.
    #[error("node {node} has no address in the inventory: add `addresses`")]
    NodeWithoutAddress {
        /// Its name.
        node: String,
    },
}
