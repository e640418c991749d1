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

/// A description of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A static inventory that was asked for.
    Inventory(PathBuf),
    /// The Kubernetes API, by kubeconfigs that are merged as kubectl merges them.
    Kubeconfig {
        /// The files, the one that counts first.
        files: Vec<PathBuf>,
        /// The context that was asked for; else the files say which.
        context: Option<String>,
    },
    /// The Kubernetes API of the cluster that this process is a pod of.
    InCluster,
    /// The running lab's inventory.
    Lab(PathBuf),
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
    /// There is nothing.
    #[error(
        "no cluster found (looked at {}); name one by `--kubeconfig FILE`, describe one by `--cluster FILE`, or run \
         `podtrace lab up` for a small network to try",
        .looked.join("; ")
    )]
    Nowhere {
        /// One line a place looked at.
        looked: Vec<String>,
    },
    /// A context was asked for, and there is nothing that has any.
    #[error("--context {context:?} needs a kubeconfig, and there is none (looked at {}); give one by `--kubeconfig FILE`", .looked.join("; "))]
    NoContexts {
        /// The context as typed.
        context: String,
        /// One line a place looked at.
        looked: Vec<String>,
    },
}

/// Finds the first place that describes a cluster.
///
/// # Errors
/// If there is none.
pub fn discover(wanted: &Wanted, host: &Host<'_>) -> Result<Discovered, NotFound> {
    let Wanted { cluster, kubeconfig, context } = wanted;
    let mut looked = Vec::new();
    if let Some(file) = cluster {
        looked.push(format!("--cluster: {}", file.display()));
        return Ok(Discovered { source: Source::Inventory(file.clone()), looked, notes: Vec::new() });
    }
    looked.push("--cluster: not given".to_owned());
    if let Some(file) = kubeconfig {
        looked.push(format!("--kubeconfig: {}", file.display()));
        let source = Source::Kubeconfig { files: vec![file.clone()], context: context.clone() };
        return Ok(Discovered { source, looked, notes: Vec::new() });
    }
    looked.push("--kubeconfig: not given".to_owned());

    for Place { name, found } in places(host) {
        match found {
            Ok(files) => {
                let names: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
                looked.push(if names == [name.as_str()] {
                    format!("{name}: found")
                } else {
                    format!("{name}: {}", names.join(", "))
                });
                let source = Source::Kubeconfig { files, context: context.clone() };
                return Ok(Discovered { source, looked, notes: passed_over(host).into_iter().collect() });
            }
            Err(why) => looked.push(format!("{name}: {why}")),
        }
    }
    if let Some(context) = context {
        return Err(NotFound::NoContexts { context: context.clone(), looked });
    }
    let in_cluster = "in-cluster service account";
    match (host.in_pod, (host.exists)(Path::new(TOKEN))) {
        (true, true) => {
            looked.push(format!("{in_cluster}: found"));
            let notes = passed_over(host).into_iter().collect();
            return Ok(Discovered { source: Source::InCluster, looked, notes });
        }
        (true, false) => looked.push(format!("{in_cluster}: no token is mounted")),
        (false, _) => looked.push(format!("{in_cluster}: not in a pod")),
    }
    match &host.lab {
        Some(file) => {
            looked.push(format!("running lab: {}", file.display()));
            Ok(Discovered { source: Source::Lab(file.clone()), looked, notes: Vec::new() })
        }
        None => {
            looked.push("running lab: none".to_owned());
            Err(NotFound::Nowhere { looked })
        }
    }
}

/// Who has built a lab may mean it, though a kubeconfig lies about.
fn passed_over(host: &Host<'_>) -> Option<String> {
    let file = host.lab.as_ref()?;
    Some(format!("a lab is running, too: `--cluster {}` means that one", file.display()))
}

/// A place where a kubeconfig may be: the files that are there, or why there is none.
struct Place {
    name: String,
    found: Result<Vec<PathBuf>, String>,
}

fn places(host: &Host<'_>) -> Vec<Place> {
    let file = |path: PathBuf| {
        let name = path.display().to_string();
        let found = if (host.exists)(&path) { Ok(vec![path]) } else { Err("not there".to_owned()) };
        Place { name, found }
    };
    let mut places = vec![kubeconfig_variable(host)];
    places.extend(host.homes.iter().map(|home| file(home.join(".kube/config"))));
    places.push(file(K3S.into()));
    places
}

/// The variable may hold several paths, as for kubectl; those that do not exist are skipped, as by kubectl.
fn kubeconfig_variable(host: &Host<'_>) -> Place {
    let found = match &host.kubeconfig {
        None => Err("not set".to_owned()),
        Some(value) if value.is_empty() => Err("not set".to_owned()),
        Some(value) => {
            let files: Vec<_> = std::env::split_paths(value).filter(|path| (host.exists)(path)).collect();
            if files.is_empty() {
                Err(format!("{} is not there", Path::new(value).display()))
            } else {
                Ok(files)
            }
        }
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

    fn kubeconfig(files: &[&str], context: Option<&str>) -> Source {
        Source::Kubeconfig {
            files: files.iter().map(PathBuf::from).collect(),
            context: context.map(str::to_owned),
        }
    }

    #[test]
    fn a_kubeconfig_asked_for_goes_before_those_that_lie_about() {
        let wanted =
            Wanted { kubeconfig: Some("k".into()), context: Some("x".to_owned()), ..Wanted::default() };
        let found = find(&["/b/config"], &wanted, true, true).unwrap();
        assert_eq!(found.source, kubeconfig(&["k"], Some("x")));
        assert_eq!(found.looked, ["--cluster: not given", "--kubeconfig: k"]);
        assert!(found.notes.is_empty());
    }

    #[test]
    fn the_first_place_that_there_is_is_taken() {
        let mut files =
            vec!["/a/config", "/b/config", "/home/ann/.kube/config", "/root/.kube/config", K3S, TOKEN];
        for (there, source, last) in [
            (6, kubeconfig(&["/a/config", "/b/config"], None), "KUBECONFIG: /a/config, /b/config"),
            (5, kubeconfig(&["/b/config"], None), "KUBECONFIG: /b/config"),
            (4, kubeconfig(&["/home/ann/.kube/config"], None), "/home/ann/.kube/config: found"),
            (3, kubeconfig(&["/root/.kube/config"], None), "/root/.kube/config: found"),
            (2, kubeconfig(&[K3S], None), "/etc/rancher/k3s/k3s.yaml: found"),
            (1, Source::InCluster, "in-cluster service account: found"),
        ] {
            assert_eq!(files.len(), there);
            let found = find(&files, &Wanted::default(), true, true).unwrap();
            assert_eq!(found.source, source);
            assert_eq!(found.looked.last().unwrap(), last);
            assert_eq!(found.notes, ["a lab is running, too: `--cluster /run/lab.yaml` means that one"]);
            files.remove(0);
        }
        let found = find(&files, &Wanted::default(), true, true).unwrap();
        assert_eq!(found.source, Source::Lab("/run/lab.yaml".into()));
        assert_eq!(
            found.looked,
            [
                "--cluster: not given",
                "--kubeconfig: not given",
                "KUBECONFIG: /a/config:/b/config is not there",
                "/home/ann/.kube/config: not there",
                "/root/.kube/config: not there",
                "/etc/rancher/k3s/k3s.yaml: not there",
                "in-cluster service account: no token is mounted",
                "running lab: /run/lab.yaml",
            ]
        );
        assert!(found.notes.is_empty());
    }

    #[test]
    fn a_context_is_looked_for_in_kubeconfigs_only() {
        let wanted = Wanted { context: Some("x".to_owned()), ..Wanted::default() };
        assert_eq!(find(&[K3S], &wanted, true, true).unwrap().source, kubeconfig(&[K3S], Some("x")));
        let error = find(&[TOKEN], &wanted, true, true).unwrap_err().to_string();
        assert!(error.starts_with("--context \"x\" needs a kubeconfig") && error.contains(K3S), "{error}");
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
