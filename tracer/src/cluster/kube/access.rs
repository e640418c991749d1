//! The connection to a cluster's API server.

use std::path::PathBuf;
use std::time::Duration;

use kube::config::KubeConfigOptions;
use kube::{Client, Config};

use super::error::{ApiError, auth, innermost};
use super::kubeconfig::{self, plain};

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
        let mut kubeconfig = kubeconfig::read(files)?;
        let names = files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ");
        let context = kubeconfig::choose(&kubeconfig, context, &names)?;
        kubeconfig::as_kubectl_reads_it(&mut kubeconfig);
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
        // The only programs that are run are those of the context's user.
        let plugin = config.auth_info.exec.as_ref().and_then(|exec| exec.command.clone());
        let client = Client::try_from(config).map_err(|error| ApiError::Login {
            account: account.clone(),
            what: match &error {
                kube::Error::Auth(error) => auth(error, plugin.as_deref()),
                error => login_error(&innermost(error)),
            },
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
    async fn a_server_may_have_no_scheme() {
        for (server, port) in [("127.0.0.1:8080", "127.0.0.1:8080"), ("work.example", "work.example")] {
            let text = CONFIG.replace("'http://user:secret@work.example'", server);
            assert_eq!(api(&text, Some("work")).await.unwrap().server, port);
        }
        let error = api(&CONFIG.replace("http://user:secret@work.example", ""), Some("work")).await;
        assert!(error.err().unwrap().starts_with("cannot use the kubeconfig FILE"));
    }

    #[tokio::test]
    async fn a_plugin_that_fails_is_named_without_its_arguments_and_environment() {
        for (command, expected) in [
            ("/nonexistent/plugin", "cannot run the credential plugin /nonexistent/plugin: No such file"),
            ("sh", "the credential plugin sh failed (exit status: 3)"),
        ] {
            let exec = format!(
                "exec: {{apiVersion: client.authentication.k8s.io/v1, command: {command}, args: [-c, 'exit 3 # hunter2'], \
                 env: [{{name: PASSWORD, value: hunter3}}], interactiveMode: Never}}"
            );
            let error = api(&CONFIG.replace("token: t", &exec), None).await.err().unwrap();
            assert!(error.contains(expected) && !error.contains("hunter"), "{error}");
        }
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
