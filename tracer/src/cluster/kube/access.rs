//! The connection to a cluster's API server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use serde_saphyr::{DefaultMessageFormatter, MessageFormatter as _};

use super::error::{ApiError, innermost};
use podtrace_protocol::inventory::nearest_text;

/// Time limit for connecting: a server that runs accepts at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client of a cluster's API server.
#[derive(Clone)]
pub struct Api {
    /// Sends requests.
    pub(crate) client: Client,
    /// Host and port, for messages.
    pub(crate) server: String,
    /// Namespace for names without one.
    namespace: String,
    /// The context or service account, for `-v`.
    account: String,
}

impl Api {
    /// A client from kubeconfigs, merged as kubectl merges them. It sends nothing yet.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, or the context is missing or incomplete.
    pub async fn by_kubeconfig(files: &[PathBuf], context: Option<&str>) -> Result<Self, ApiError> {
        let kubeconfig = read(files)?;
        let names = files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ");
        let context = choose(&kubeconfig, context, &names)?;
        let options = KubeConfigOptions { context: Some(context.clone()), ..KubeConfigOptions::default() };
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| {
            ApiError::Kubeconfig {
                files: names.clone(),
                what: format!("context {context:?}: {}", plain(&error)),
            }
        })?;
        Self::of(config, format!("context {context:?} of {names}"))
    }

    /// A client from the service account of the pod that this process runs in.
    ///
    /// # Errors
    ///
    /// If the pod has no usable service account.
    pub fn in_cluster() -> Result<Self, ApiError> {
        let config = Config::incluster().map_err(|error| ApiError::InCluster { what: innermost(&error) })?;
        Self::of(config, "this pod's service account".to_owned())
    }

    fn of(mut config: Config, account: String) -> Result<Self, ApiError> {
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        let uri = &config.cluster_url;
        let server = match (uri.host(), uri.port_u16()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (Some(host), None) => host.to_owned(),
            (None, _) => "a URL without a host".to_owned(),
        };
        let namespace = config.default_namespace.clone();
        let client = Client::try_from(config).map_err(|error| ApiError::Login {
            account: account.clone(),
            what: login_error(&innermost(&error)),
        })?;
        Ok(Self { client, server, namespace, account })
    }

    #[cfg(test)]
    pub(super) fn fake(client: Client) -> Self {
        let namespace = client.default_namespace().to_owned();
        Self { client, server: "10.0.0.1:6443".to_owned(), namespace, account: "a test".to_owned() }
    }

    /// Namespace for names without one.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The server and the account, for `-v`.
    #[must_use]
    pub fn account(&self) -> String {
        format!("Kubernetes API at {}, by {}", self.server, self.account)
    }
}

fn read(files: &[PathBuf]) -> Result<Kubeconfig, ApiError> {
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
fn plain(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::Parse(error) => {
            let at = error.location().map(|at| format!("line {}: ", at.line())).unwrap_or_default();
            format!("{at}{}", DefaultMessageFormatter.format_message(error.without_snippet()))
        }
        KubeconfigError::ReadConfig(error, _) => error.to_string(),
        _ => error.to_string(),
    }
}

/// An error about keys or certificates, reworded if the library's message does not help.
fn login_error(words: &str) -> String {
    // rustls says "peer certificate", although it is the user's own.
    if words.contains("UnsupportedCertVersion") {
        return "it has a certificate of X.509 version 1, which podtrace's TLS library rejects: have it signed again with \
                an extension, such as extendedKeyUsage=clientAuth"
            .to_owned();
    }
    words.to_owned()
}

/// The context to use: the given one, otherwise the current context of the files.
fn choose(kubeconfig: &Kubeconfig, wanted: Option<&str>, files: &str) -> Result<String, ApiError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "
apiVersion: v1
kind: Config
clusters:
- {name: home, cluster: {server: 'https://192.168.1.11:6443', insecure-skip-tls-verify: true}}
- {name: work, cluster: {server: 'http://user:secret@work.example'}}
users:
- {name: me, user: {token: t}}
contexts:
- {name: home, context: {cluster: home, user: me, namespace: shop}}
- {name: work, context: {cluster: work, user: me}}
- {name: broken, context: {cluster: nowhere, user: me}}
current-context: home
";

    async fn api(text: &str, context: Option<&str>) -> Result<Api, String> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config");
        std::fs::write(&file, text).unwrap();
        let named = file.display().to_string();
        Api::by_kubeconfig(&[file], context).await.map_err(|error| error.to_string().replace(&named, "FILE"))
    }

    #[tokio::test]
    async fn the_context_decides_server_and_namespace() {
        let home = api(CONFIG, None).await.unwrap();
        assert_eq!((home.server.as_str(), home.namespace()), ("192.168.1.11:6443", "shop"));
        let work = api(CONFIG, Some("work")).await.unwrap();
        assert_eq!((work.server.as_str(), work.namespace()), ("work.example", "default"));
        assert!(work.account().starts_with("Kubernetes API at work.example, by context \"work\" of "));
    }

    #[tokio::test]
    async fn kubeconfig_errors_are_one_line() {
        for (text, context, parts) in [
            (CONFIG, Some("wrok"), &["FILE: there is no context \"wrok\"; nearest contexts: work"][..]),
            (CONFIG, Some("broken"), &["context \"broken\": ", "nowhere"]),
            (
                &CONFIG.replace("current-context: home", ""),
                None,
                &["no current context", "--context: home, work"],
            ),
            ("", None, &["has no contexts"]),
            ("clusters: [\n  {name: x, secret: hunter2\n", None, &["line "]),
        ] {
            let error = api(text, context).await.err().unwrap();
            for part in parts {
                assert!(error.contains(part), "{part:?} in {error:?}");
            }
            assert!(!error.contains('\n') && !error.contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn a_certificate_without_extensions_gets_advice() {
        let text = login_error("invalid peer certificate: Other(OtherError(UnsupportedCertVersion))");
        assert!(text.contains("X.509 version 1") && text.contains("signed again"), "{text}");
        assert_eq!(login_error("no such file"), "no such file");
    }

    #[tokio::test]
    async fn a_missing_file_is_named() {
        let error = Api::by_kubeconfig(&["/nonexistent/config".into()], None).await.err().unwrap();
        assert!(error.to_string().starts_with("cannot use the kubeconfig /nonexistent/config: "), "{error}");
    }

    #[tokio::test]
    async fn the_first_file_takes_precedence() {
        let directory = tempfile::tempdir().unwrap();
        let (first, second) = (directory.path().join("1"), directory.path().join("2"));
        std::fs::write(&first, "current-context: work\n").unwrap();
        std::fs::write(&second, CONFIG).unwrap();
        assert_eq!(Api::by_kubeconfig(&[first, second], None).await.unwrap().server, "work.example");
    }
}
