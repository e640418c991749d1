//! Kubeconfigs: reading, merging, and what kubectl takes that the client library does not.

use std::fs;
use std::path::{Path, PathBuf};

use kube::config::{AuthInfo, Cluster, Kubeconfig, KubeconfigError};
use serde_saphyr::{DefaultMessageFormatter, MessageFormatter as _};

use super::error::ApiError;
use podtrace_protocol::inventory::nearest_text;

/// Reads kubeconfigs and merges them as kubectl does: the first file to set something wins.
pub(super) fn read(files: &[PathBuf]) -> Result<Kubeconfig, ApiError> {
    let mut merged = Kubeconfig::default();
    for file in files {
        let failed = |error: KubeconfigError| ApiError::Kubeconfig {
            files: file.display().to_string(),
            what: read_error(&error, file),
        };
        merged = Kubeconfig::read_from(file).and_then(|next| merged.merge(next)).map_err(failed)?;
    }
    Ok(merged)
}

fn read_error(error: &KubeconfigError, file: &Path) -> String {
    match error {
        KubeconfigError::ReadConfig(error, _) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            format!(
                "{error}: run podtrace as root, or copy the file to where you can read it (sudo cat {} > …)",
                file.display()
            )
        }
        _ => plain(error),
    }
}

/// The error without an excerpt of the file, which contains keys.
pub(super) fn plain(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::Parse(error) => {
            let at = error.location().map(|at| format!("line {}: ", at.line())).unwrap_or_default();
            format!("{at}{}", DefaultMessageFormatter.format_message(error.without_snippet()))
        }
        KubeconfigError::ReadConfig(error, _) => error.to_string(),
        _ => error.to_string(),
    }
}

/// The context to use: the given one, otherwise the current context of the files.
pub(super) fn choose(kubeconfig: &Kubeconfig, wanted: Option<&str>, files: &str) -> Result<String, ApiError> {
    let names = || kubeconfig.contexts.iter().map(|context| context.name.as_str());
    let error = |what: String| ApiError::Kubeconfig { files: files.to_owned(), what };
    let Some(context) = wanted.or(kubeconfig.current_context.as_deref()).filter(|name| !name.is_empty())
    else {
        let names: Vec<_> = names().collect();
        return Err(error(if names.is_empty() {
            "it has no contexts: is it a kubeconfig?".to_owned()
        } else {
            format!("it has no current context: choose one with --context: {}", names.join(", "))
        }));
    };
    if names().any(|name| name == context) {
        return Ok(context.to_owned());
    }
    Err(error(format!("there is no context {context:?}; {}", nearest_text(context, "contexts", names()))))
}

/// Rewrites what the client library reads in another way than kubectl.
pub(super) fn as_kubectl_reads_it(kubeconfig: &mut Kubeconfig) {
    for cluster in kubeconfig.clusters.iter_mut().filter_map(|named| named.cluster.as_mut()) {
        add_scheme(cluster);
    }
    for user in kubeconfig.auth_infos.iter_mut().filter_map(|named| named.auth_info.as_mut()) {
        prefer_token_file(user);
    }
}

/// A server may be `HOST:PORT`: over TLS if the cluster has settings for TLS. The client library panics at such a URL.
fn add_scheme(cluster: &mut Cluster) {
    let has_tls = cluster.certificate_authority.is_some()
        || cluster.certificate_authority_data.is_some()
        || cluster.tls_server_name.is_some()
        || cluster.insecure_skip_tls_verify == Some(true);
    if let Some(server) = cluster.server.as_mut().filter(|server| !server.contains("://")) {
        *server = format!("{}://{server}", if has_tls { "https" } else { "http" });
    }
}

/// A token's file comes before a token, and may end with a line break, which is no part of a header. Such a file is read once.
fn prefer_token_file(user: &mut AuthInfo) {
    let Some(file) = &user.token_file else { return };
    user.token = None;
    // If it cannot be read, logging in says so.
    if let Ok(token) = fs::read_to_string(file)
        && token.trim() != token
    {
        user.token = Some(token.trim().to_owned().into());
        user.token_file = None;
    }
}
