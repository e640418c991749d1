//! What goes wrong with a cluster's API: a line each that says what was tried and what to do.

use std::error::Error;
use std::fmt;

/// Something that a user may be allowed to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Right {
    /// What to do, such as `list`.
    pub verb: &'static str,
    /// Group of the resource's API; empty for the core's.
    pub group: &'static str,
    /// With what, such as `pods`.
    pub resource: &'static str,
    /// Where; `None` for the whole cluster.
    pub namespace: Option<String>,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, group, resource, namespace } = self;
        write!(f, "{verb} {resource}")?;
        if !group.is_empty() {
            write!(f, ".{group}")?;
        }
        match namespace {
            Some(namespace) => write!(f, " in namespace {namespace}"),
            None => write!(f, " in the whole cluster"),
        }
    }
}

/// Why a cluster's API is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A kubeconfig cannot be read, or does not say what it must.
    #[error("cannot use the kubeconfig {files}: {what}")]
    Kubeconfig {
        /// Its files.
        files: String,
        /// What is wrong.
        what: String,
    },
    /// A pod without a usable service account.
    #[error("cannot use this pod's service account: {what}; give a kubeconfig by --kubeconfig FILE")]
    InCluster {
        /// What is wrong.
        what: String,
    },
    /// Certificates, tokens or plugins that do not work.
    #[error("cannot log in by {account}: {what}")]
    Login {
        /// The context or account.
        account: String,
        /// What is wrong.
        what: String,
    },
    /// The server cannot be talked to.
    #[error(
        "cannot reach the Kubernetes API at {server}: {what}; see that it runs and can be reached from here, choose \
         another by --kubeconfig or --context, or describe the cluster by --cluster FILE"
    )]
    Unreachable {
        /// Its host and port.
        server: String,
        /// What happened.
        what: String,
    },
    /// The server takes connections and says nothing.
    #[error("the Kubernetes API at {server} did not answer within {seconds} s")]
    Silent {
        /// Its host and port.
        server: String,
        /// How long it was given.
        seconds: u64,
    },
    /// The server does not know the user.
    #[error("the Kubernetes API at {server} does not know you ({words}): log in to the cluster again")]
    Unauthorized {
        /// Its host and port.
        server: String,
        /// What the server says.
        words: String,
    },
    /// The user lacks rights.
    #[error("the Kubernetes API at {server} does not let you {}: {words}; {}", all(.missing), remedy(.missing))]
    Forbidden {
        /// Its host and port.
        server: String,
        /// The rights that are missing.
        missing: Vec<Right>,
        /// What the server says of the first.
        words: String,
    },
    /// What was asked for is not there, or this version of the API is not served.
    #[error("the Kubernetes API at {server} could not {right}: {words}")]
    NotFound {
        /// Its host and port.
        server: String,
        /// What was tried.
        right: Right,
        /// What the server says.
        words: String,
    },
    /// The server does not know any more what it was asked about.
    #[error("the Kubernetes API at {server} could not {right}: {words}")]
    Gone {
        /// Its host and port.
        server: String,
        /// What was tried.
        right: Right,
        /// What the server says.
        words: String,
    },
    /// The server answers something else.
    #[error("the Kubernetes API at {server} could not {right}: {words}")]
    Answer {
        /// Its host and port.
        server: String,
        /// What was tried.
        right: Right,
        /// What the server says.
        words: String,
    },
}

/// How rights are given: by the roles that `podtrace manifest` has.
fn remedy(rights: &[Right]) -> String {
    let mut steps = Vec::new();
    if rights.iter().any(|right| right.namespace.is_none()) {
        steps.push(
            "`kubectl create clusterrolebinding podtrace-YOU --clusterrole=podtrace-names --user=YOU`"
                .to_owned(),
        );
    }
    if let Some(right) = rights.iter().find(|right| right.resource == "pods/exec")
        && let Some(namespace) = &right.namespace
    {
        steps.push(format!(
            "`kubectl -n {namespace} create rolebinding podtrace-YOU --role=podtrace-user --user=YOU`"
        ));
    }
    if steps.is_empty() {
        return "an administrator can give you that right (docs/kubernetes.md)".to_owned();
    }
    format!(
        "an administrator gives it by {}; `podtrace manifest | kubectl apply -f -` makes the roles (docs/kubernetes.md)",
        steps.join(" and ")
    )
}

fn all(rights: &[Right]) -> String {
    rights.iter().map(ToString::to_string).collect::<Vec<_>>().join(", nor ")
}

impl Refusal {
    /// What to tell of two: all missing rights; but before those, what nobody can be given.
    #[must_use]
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Forbidden { server, mut missing, words }, Self::Forbidden { missing: more, .. }) => {
                missing.extend(more);
                Self::Forbidden { server, missing, words }
            }
            (Self::Forbidden { .. }, other) => other,
            (one, _) => one,
        }
    }

    /// What an error means when `right` was made use of.
    pub(crate) fn of(server: &str, right: Right, error: kube::Error) -> Self {
        let server = server.to_owned();
        match error {
            kube::Error::Api(status) => {
                let words =
                    if status.message.is_empty() { status.reason.clone() } else { status.message.clone() };
                match status.code {
                    401 => Self::Unauthorized { server, words },
                    403 => Self::Forbidden { server, missing: vec![right], words },
                    404 => Self::NotFound { server, right, words },
                    410 => Self::Gone { server, right, words },
                    code => Self::Answer { server, right, words: format!("{code} {words}") },
                }
            }
            kube::Error::SerdeError(error) => {
                Self::Answer { server, right, words: format!("its answer is no such list ({error})") }
            }
            kube::Error::Auth(error) => Self::Login { account: server, what: innermost(&error) },
            error => Self::Unreachable { server, what: innermost(&error) },
        }
    }
}

/// The cause that the others only pass on.
pub(super) fn innermost(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
