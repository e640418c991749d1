//! Where the cluster is described: the first place that there is, in the order that users rely on.
//!
//! [`Host`] is what this machine offers, gathered beforehand, so that the choice itself is a pure function.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What was asked for on the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// `--cluster`.
    pub cluster: Option<PathBuf>,
    /// `--kubeconfig`.
    pub kubeconfig: Option<PathBuf>,
    /// `--context`.
    pub context: Option<String>,
}

/// What this machine offers.
pub struct Host<'a> {
    /// The variable `KUBECONFIG`: one path or several.
    pub kubeconfig: Option<OsString>,
    /// Home directories whose `.kube/config` counts: that of the user behind sudo, then our own.
    pub homes: Vec<PathBuf>,
    /// Whether `KUBERNETES_SERVICE_HOST` is set.
    pub in_pod: bool,
    /// Inventory of the lab, if one runs.
    pub lab: Option<PathBuf>,
    /// Whether there is such a file.
    pub exists: &'a dyn Fn(&Path) -> bool,
}

/// Where k3s keeps its administrator's configuration.
const K3S: &str = "/etc/rancher/k3s/k3s.yaml";
/// Where a pod finds the token of its service account.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// What a static inventory can be had from, for as long as nothing else is read.
const ALTERNATIVES: &str = "this version reads static inventories only: write one and pass it as `--cluster FILE`, or \
                            run `podtrace lab up` for a small network to try";

/// A description of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A static inventory that was asked for.
    Inventory(PathBuf),
    /// The running lab's inventory.
    Lab(PathBuf),
}

impl Source {
    /// The inventory's file.
    #[must_use]
    pub fn file(&self) -> &Path {
        match self {
            Self::Inventory(file) | Self::Lab(file) => file,
        }
    }
}

/// Where the cluster is described, and how that was found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovered {
    /// The first hit.
    pub source: Source,
    /// One line a place looked at, the hit last: for `-v`.
    pub looked: Vec<String>,
    /// What the user should know even without `-v`, one line each.
    pub notes: Vec<String>,
}

/// No description of a cluster can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotFound {
    /// A kubeconfig was asked for by name.
    #[error("{asked} asks for the Kubernetes API; {ALTERNATIVES}")]
    NeedsApi {
        /// The option as typed.
        asked: String,
    },
    /// There is nothing.
    #[error("no cluster found (looked at {}); {ALTERNATIVES}", .looked.join("; "))]
    Nowhere {
        /// One line a place looked at.
        looked: Vec<String>,
    },
}

/// Finds the first place that describes a cluster.
///
/// # Errors
/// If there is none, or if one was asked for that this version cannot read.
pub fn discover(wanted: &Wanted, host: &Host<'_>) -> Result<Discovered, NotFound> {
    let Wanted { cluster, kubeconfig, context } = wanted;
    if let Some(file) = cluster {
        let looked = vec![format!("--cluster: {}", file.display())];
        return Ok(Discovered { source: Source::Inventory(file.clone()), looked, notes: Vec::new() });
    }
    let mut looked = vec!["--cluster: not given".to_owned()];
    if let Some(file) = kubeconfig {
        return Err(NotFound::NeedsApi { asked: format!("--kubeconfig {}", file.display()) });
    }
    looked.push("--kubeconfig: not given".to_owned());
    if let Some(context) = context {
        return Err(NotFound::NeedsApi { asked: format!("--context {context:?}") });
    }

    let mut notes = Vec::new();
    for place in places(host) {
        let Place { name, found } = place;
        match found {
            Ok(what) => {
                looked.push(format!("{name}: {what}, passed over"));
                notes.push(format!(
                    "passed over {name} ({what}): the Kubernetes API is not read by this version"
                ));
            }
            Err(why) => looked.push(format!("{name}: {why}")),
        }
    }
    match &host.lab {
        Some(file) => {
            looked.push(format!("running lab: {}", file.display()));
            Ok(Discovered { source: Source::Lab(file.clone()), looked, notes })
        }
        None => {
            looked.push("running lab: none".to_owned());
            Err(NotFound::Nowhere { looked })
        }
    }
}

/// A place that a Kubernetes API would be found by: what is there, or why nothing is.
struct Place {
    name: String,
    found: Result<String, String>,
}

fn places(host: &Host<'_>) -> Vec<Place> {
    let file = |name: String, file: &Path| {
        let found = if (host.exists)(file) { Ok("found".to_owned()) } else { Err("not there".to_owned()) };
        Place { name, found }
    };
    let mut places = vec![kubeconfig_variable(host)];
    for home in &host.homes {
        let path = home.join(".kube/config");
        places.push(file(path.display().to_string(), &path));
    }
    places.push(file(K3S.to_owned(), Path::new(K3S)));
    let in_cluster = match (host.in_pod, (host.exists)(Path::new(TOKEN))) {
        (true, true) => Ok("found".to_owned()),
        (true, false) => Err("no token is mounted".to_owned()),
        (false, _) => Err("not in a pod".to_owned()),
    };
    places.push(Place { name: "in-cluster service account".to_owned(), found: in_cluster });
    places
}

/// The variable may hold several paths, as for kubectl; those that do not exist are skipped, as by kubectl.
fn kubeconfig_variable(host: &Host<'_>) -> Place {
    let found = match &host.kubeconfig {
        None => Err("not set".to_owned()),
        Some(value) if value.is_empty() => Err("not set".to_owned()),
        Some(value) => std::env::split_paths(value)
            .find(|path| (host.exists)(path))
            .map(|path| path.display().to_string())
            .ok_or_else(|| format!("{} is not there", Path::new(value).display())),
    };
    Place { name: "KUBECONFIG".to_owned(), found }
}

impl<'a> Host<'a> {
    /// This machine as it is; `lab` is the inventory of the lab if one runs.
    #[must_use]
    pub fn here(lab: Option<PathBuf>) -> Self {
        let mut homes: Vec<_> = sudo_home().into_iter().chain(std::env::home_dir()).collect();
        homes.dedup();
        Self {
            kubeconfig: std::env::var_os("KUBECONFIG"),
            homes,
            in_pod: std::env::var_os("KUBERNETES_SERVICE_HOST").is_some(),
            lab,
            exists: &Path::is_file,
        }
    }
}

/// Home of the user who called sudo.
#[cfg(target_os = "linux")]
fn sudo_home() -> Option<PathBuf> {
    let user = std::env::var("SUDO_USER").ok()?;
    nix::unistd::User::from_name(&user).ok().flatten().map(|user| user.dir)
}

#[cfg(not(target_os = "linux"))]
fn sudo_home() -> Option<PathBuf> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine with these files, and a user behind sudo.
    fn find(files: &[&str], wanted: &Wanted, lab: bool, in_pod: bool) -> Result<Discovered, NotFound> {
        let exists = |path: &Path| files.iter().any(|file| Path::new(file) == path);
        let host = Host {
            kubeconfig: Some("/a/config:/b/config".into()),
            homes: vec!["/home/ann".into(), "/root".into()],
            in_pod,
            lab: lab.then(|| "/run/lab.yaml".into()),
            exists: &exists,
        };
        discover(wanted, &host)
    }

    #[test]
    fn an_inventory_asked_for_goes_before_all() {
        let wanted = Wanted {
            cluster: Some("c.yaml".into()),
            kubeconfig: Some("k".into()),
            context: Some("x".to_owned()),
        };
        let found = find(&["/b/config"], &wanted, true, false).unwrap();
        assert_eq!(found.source, Source::Inventory("c.yaml".into()));
        assert_eq!(found.looked, ["--cluster: c.yaml"]);
        assert!(found.notes.is_empty());
    }

    #[test]
    fn a_kubeconfig_asked_for_is_refused_and_not_replaced() {
        for (wanted, asked) in [
            (Wanted { kubeconfig: Some("k".into()), ..Wanted::default() }, "--kubeconfig k asks"),
            (Wanted { context: Some("x".to_owned()), ..Wanted::default() }, "--context \"x\" asks"),
        ] {
            let error = find(&[], &wanted, true, false).unwrap_err().to_string();
            assert!(error.starts_with(asked), "{error}");
            assert!(error.contains("--cluster FILE") && error.contains("podtrace lab up"), "{error}");
        }
    }

    #[test]
    fn kubeconfigs_that_lie_about_are_passed_over_with_a_note() {
        let files = ["/b/config", "/home/ann/.kube/config", K3S, TOKEN];
        let found = find(&files, &Wanted::default(), true, true).unwrap();
        assert_eq!(found.source, Source::Lab("/run/lab.yaml".into()));
        assert_eq!(
            found.looked,
            [
                "--cluster: not given",
                "--kubeconfig: not given",
                "KUBECONFIG: /b/config, passed over",
                "/home/ann/.kube/config: found, passed over",
                "/root/.kube/config: not there",
                "/etc/rancher/k3s/k3s.yaml: found, passed over",
                "in-cluster service account: found, passed over",
                "running lab: /run/lab.yaml",
            ]
        );
        assert_eq!(found.notes.len(), 4);
        assert_eq!(
            found.notes[0],
            "passed over KUBECONFIG (/b/config): the Kubernetes API is not read by this version"
        );
    }

    #[test]
    fn nothing_at_all_tells_where_it_looked_and_what_to_do() {
        let error = find(&[], &Wanted::default(), false, false).unwrap_err().to_string();
        for part in ["/a/config:/b/config is not there", "/root/.kube/config", K3S, "not in a pod", "lab up"]
        {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(!error.contains('\n'));
    }
}
