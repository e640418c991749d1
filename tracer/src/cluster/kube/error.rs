//! Errors of the Kubernetes API: one line each, with what was tried and what to do.

use std::error::Error;
use std::fmt;

use kube::client::AuthError;

/// A permission of the Kubernetes API (RBAC).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// Verb, such as `list`.
    pub verb: &'static str,
    /// API group of the resource; empty for the core group.
    pub group: &'static str,
    /// Resource, such as `pods`.
    pub resource: &'static str,
    /// Namespace; `None` for the whole cluster.
    pub namespace: Option<String>,
}

impl fmt::Display for Permission {
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

/// Why a request to the Kubernetes API failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// A kubeconfig cannot be read, or is incomplete.
    #[error("cannot use the kubeconfig {files}: {what}")]
    Kubeconfig {
        /// Its files.
        files: String,
        /// What is wrong.
        what: String,
    },
    /// The pod has no usable service account.
    #[error("cannot use this pod's service account: {what}; use --kubeconfig FILE instead")]
    InCluster {
        /// What is wrong.
        what: String,
    },
    /// Certificates, tokens or credential plugins do not work.
    #[error("cannot log in to the Kubernetes API with {account}: {what}")]
    Login {
        /// The context or account.
        account: String,
        /// What is wrong.
        what: String,
    },
    /// The server cannot be reached.
    #[error(
        "cannot reach the Kubernetes API at {server}: {what}; check that it runs and that this machine can reach it, \
         choose another with --kubeconfig or --context, or describe the cluster with --cluster FILE"
    )]
    Unreachable {
        /// Its host and port.
        server: String,
        /// What happened.
        what: String,
    },
    /// The server accepts connections but does not answer.
    #[error("the Kubernetes API at {server} did not answer within {seconds} s")]
    Silent {
        /// Its host and port.
        server: String,
        /// The time limit.
        seconds: u64,
    },
    /// The server rejects the credentials.
    #[error("the Kubernetes API at {server} rejects your credentials ({words}): log in to the cluster again")]
    Unauthorized {
        /// Its host and port.
        server: String,
        /// The server's message.
        words: String,
    },
    /// The user does not have the permission.
    #[error("the Kubernetes API at {server} does not let you {}: {words}; {}", list(.missing), remedy(.missing))]
    Forbidden {
        /// Its host and port.
        server: String,
        /// The missing permissions.
        missing: Vec<Permission>,
        /// The server's message about the first.
        words: String,
    },
    /// The object does not exist, or the server does not serve this version of the API.
    #[error("the Kubernetes API at {server} could not {permission}: {words}")]
    NotFound {
        /// Its host and port.
        server: String,
        /// What was tried.
        permission: Permission,
        /// The server's message.
        words: String,
    },
    /// The server no longer has the requested version of a list.
    #[error("the Kubernetes API at {server} could not {permission}: {words}")]
    Gone {
        /// Its host and port.
        server: String,
        /// What was tried.
        permission: Permission,
        /// The server's message.
        words: String,
    },
    /// Any other answer of the server.
    #[error("the Kubernetes API at {server} could not {permission}: {words}")]
    Answer {
        /// Its host and port.
        server: String,
        /// What was tried.
        permission: Permission,
        /// The server's message.
        words: String,
    },
}

/// How an administrator grants permissions: with the roles of `podtrace manifest`.
fn remedy(missing: &[Permission]) -> String {
    let mut steps = Vec::new();
    if missing.iter().any(|permission| permission.namespace.is_none()) {
        steps.push(
            "`kubectl create clusterrolebinding podtrace-YOU --clusterrole=podtrace-names --user=YOU`"
                .to_owned(),
        );
    }
    if let Some(exec) = missing.iter().find(|permission| permission.resource == "pods/exec")
        && let Some(namespace) = &exec.namespace
    {
        steps.push(format!(
            "`kubectl -n {namespace} create rolebinding podtrace-YOU --role=podtrace-user --user=YOU`"
        ));
    }
    if steps.is_empty() {
        return "an administrator can grant it (docs/kubernetes.md)".to_owned();
    }
    format!(
        "an administrator grants it with {}; `podtrace manifest | kubectl apply -f -` creates the roles (docs/kubernetes.md)",
        steps.join(" and ")
    )
}

fn list(missing: &[Permission]) -> String {
    missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(", nor ")
}

impl ApiError {
    /// Combines two errors: all missing permissions together, but any other error takes precedence.
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

    /// The error of a request that needs `permission`.
    pub(crate) fn of(server: &str, permission: Permission, error: kube::Error) -> Self {
        let server = server.to_owned();
        match error {
            kube::Error::Api(status) => {
                let words =
                    if status.message.is_empty() { status.reason.clone() } else { status.message.clone() };
                match status.code {
                    401 => Self::Unauthorized { server, words },
                    403 => Self::Forbidden { server, missing: vec![permission], words },
                    404 => Self::NotFound { server, permission, words },
                    410 => Self::Gone { server, permission, words },
                    code => Self::Answer { server, permission, words: format!("{code} {words}") },
                }
            }
            kube::Error::SerdeError(error) => {
                Self::Answer { server, permission, words: format!("cannot parse the answer ({error})") }
            }
            kube::Error::Auth(error) => Self::Login { account: server, what: auth(&error, None) },
            error => Self::Unreachable { server, what: innermost(&error) },
        }
    }
}

/// Why logging in failed. The library's message about a credential plugin has its arguments, environment and output, and so
/// passwords.
pub(super) fn auth(error: &AuthError, plugin: Option<&str>) -> String {
    let plugin = plugin
        .map_or_else(|| "the credential plugin".to_owned(), |name| format!("the credential plugin {name}"));
    match error {
        AuthError::AuthExecStart(error) => {
            format!("cannot run {plugin}: {error}; install it, or log in another way")
        }
        AuthError::AuthExecRun { out, .. } => {
            format!("{plugin} failed ({}); run it by hand to see why", out.status)
        }
        AuthError::AuthExecParse(_) => format!("{plugin} printed no ExecCredential object"),
        error => innermost(error),
    }
}

/// The message of the innermost cause.
pub(super) fn innermost(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
