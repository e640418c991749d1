//! Chooses the source of cluster information: the first one that exists, in the documented order.
//!
//! 1. `--cluster FILE`, 2. `--kubeconfig FILE`, 3. `KUBECONFIG`, 4. `~/.kube/config` of the user behind sudo, then of the
//!    current user, 5. K3s' kubeconfig, 6. a pod's service account, 7. the running lab.
//!
//! [`Host`] holds what this machine has, gathered beforehand, so that [`discover()`] is a pure function.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The choices on the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// `--cluster`.
    pub cluster: Option<PathBuf>,
    /// `--kubeconfig`.
    pub kubeconfig: Option<PathBuf>,
    /// `--context`.
    pub context: Option<String>,
}

/// The sources on this machine.
pub struct Host<'a> {
    /// The environment variable `KUBECONFIG`: one path or several.
    pub kubeconfig: Option<OsString>,
    /// Home directories to look for `.kube/config` in: of the user behind sudo, then our own.
    pub homes: Vec<PathBuf>,
    /// Whether `KUBERNETES_SERVICE_HOST` is set.
    pub in_pod: bool,
    /// Inventory of the running lab, if any.
    pub lab: Option<PathBuf>,
    /// Whether a file exists.
    pub exists: &'a dyn Fn(&Path) -> bool,
}

/// The administrator's kubeconfig of K3s.
const K3S: &str = "/etc/rancher/k3s/k3s.yaml";
/// The token of a pod's service account.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// A source of cluster information.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A static inventory given on the command line.
    Inventory(PathBuf),
    /// The Kubernetes API, by kubeconfigs merged as kubectl merges them.
    Kubeconfig {
        /// The files, by precedence.
        files: Vec<PathBuf>,
        /// The context given on the command line; `None` for the current context of the files.
        context: Option<String>,
    },
    /// The Kubernetes API, by the service account of the pod that this process runs in.
    InCluster,
    /// The running lab's inventory.
    Lab(PathBuf),
}

/// The chosen source, and how it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovered {
    /// The source.
    pub source: Source,
    /// One line for each place searched, the chosen one last, for `-v`.
    pub looked: Vec<String>,
    /// Messages for the user even without `-v`, one line each.
    pub notes: Vec<String>,
}

/// There is no usable source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotFound {
    /// No place has one.
    #[error(
        "no cluster found (searched {}): use `--kubeconfig FILE`, describe the cluster with `--cluster FILE`, or run \
         `podtrace lab up` for a test network",
        .looked.join("; ")
    )]
    Nowhere {
        /// One line for each place searched.
        looked: Vec<String>,
    },
    /// A context was given, but no kubeconfig exists.
    #[error("--context {context:?} needs a kubeconfig, but none was found (searched {}): use `--kubeconfig FILE`", .looked.join("; "))]
    NoContexts {
        /// The context as typed.
        context: String,
        /// One line for each place searched.
        looked: Vec<String>,
    },
}

/// Chooses the first source that exists.
///
/// # Errors
///
/// If none exists.
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

    let mut notes: Vec<_> = missing_hint(host).into_iter().collect();
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
                notes.extend(lab_hint(host));
                return Ok(Discovered { source, looked, notes });
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
            notes.extend(lab_hint(host));
            return Ok(Discovered { source: Source::InCluster, looked, notes });
        }
        (true, false) => looked.push(format!("{in_cluster}: no token is mounted")),
        (false, _) => looked.push(format!("{in_cluster}: not in a pod")),
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

/// A hint if KUBECONFIG names files that do not exist: the user expects these, not what is found elsewhere.
fn missing_hint(host: &Host<'_>) -> Option<String> {
    let value = host.kubeconfig.as_ref().filter(|value| !value.is_empty())?;
    let missing: Vec<_> = std::env::split_paths(value)
        .filter(|path| !(host.exists)(path))
        .map(|path| path.display().to_string())
        .collect();
    let verb = if missing.len() == 1 { "does" } else { "do" };
    (!missing.is_empty())
        .then(|| format!("KUBECONFIG names {}, which {verb} not exist", missing.join(" and ")))
}

/// A hint if a kubeconfig takes precedence over a running lab: the user may want the lab.
fn lab_hint(host: &Host<'_>) -> Option<String> {
    let file = host.lab.as_ref()?;
    Some(format!("a lab is also running: use `--cluster {}` to trace in it", file.display()))
}

/// A place for a kubeconfig: the files that exist, or why there are none.
struct Place {
    name: String,
    found: Result<Vec<PathBuf>, String>,
}

fn places(host: &Host<'_>) -> Vec<Place> {
    let file = |path: PathBuf| {
        let name = path.display().to_string();
        let found = if (host.exists)(&path) { Ok(vec![path]) } else { Err("not found".to_owned()) };
        Place { name, found }
    };
    let mut places = vec![kubeconfig_variable(host)];
    places.extend(host.homes.iter().map(|home| file(home.join(".kube/config"))));
    places.push(file(K3S.into()));
    places
}

/// The variable may contain several paths. Those that do not exist are skipped, as by kubectl.
fn kubeconfig_variable(host: &Host<'_>) -> Place {
    let found = match &host.kubeconfig {
        None => Err("not set".to_owned()),
        Some(value) if value.is_empty() => Err("not set".to_owned()),
        Some(value) => {
            let files: Vec<_> = std::env::split_paths(value).filter(|path| (host.exists)(path)).collect();
            if files.is_empty() {
                Err(format!("{} does not exist", Path::new(value).display()))
            } else {
                Ok(files)
            }
        }
    };
    Place { name: "KUBECONFIG".to_owned(), found }
}

impl<'a> Host<'a> {
    /// The sources on this machine; `lab` is the inventory of the running lab, if any.
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

    /// Searches a machine that has these files and a user behind sudo.
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
    fn a_given_inventory_comes_first() {
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
    fn a_given_kubeconfig_comes_before_others() {
        let wanted =
            Wanted { kubeconfig: Some("k".into()), context: Some("x".to_owned()), ..Wanted::default() };
        let found = find(&["/b/config"], &wanted, true, true).unwrap();
        assert_eq!(found.source, kubeconfig(&["k"], Some("x")));
        assert_eq!(found.looked, ["--cluster: not given", "--kubeconfig: k"]);
        assert!(found.notes.is_empty());
    }

    #[test]
    fn the_first_existing_place_is_chosen() {
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
            let lab = "a lab is also running: use `--cluster /run/lab.yaml` to trace in it";
            let missing = match there {
                6 => None,
                5 => Some("KUBECONFIG names /a/config, which does not exist"),
                _ => Some("KUBECONFIG names /a/config and /b/config, which do not exist"),
            };
            assert!(found.notes.iter().map(String::as_str).eq(missing.into_iter().chain([lab])));
            files.remove(0);
        }
        let found = find(&files, &Wanted::default(), true, true).unwrap();
        assert_eq!(found.source, Source::Lab("/run/lab.yaml".into()));
        assert_eq!(
            found.looked,
            [
                "--cluster: not given",
                "--kubeconfig: not given",
                "KUBECONFIG: /a/config:/b/config does not exist",
                "/home/ann/.kube/config: not found",
                "/root/.kube/config: not found",
                "/etc/rancher/k3s/k3s.yaml: not found",
                "in-cluster service account: no token is mounted",
                "running lab: /run/lab.yaml",
            ]
        );
        assert_eq!(found.notes, ["KUBECONFIG names /a/config and /b/config, which do not exist"]);
    }

    #[test]
    fn a_context_is_looked_for_in_kubeconfigs_only() {
        let wanted = Wanted { context: Some("x".to_owned()), ..Wanted::default() };
        assert_eq!(find(&[K3S], &wanted, true, true).unwrap().source, kubeconfig(&[K3S], Some("x")));
        let error = find(&[TOKEN], &wanted, true, true).unwrap_err().to_string();
        assert!(error.starts_with("--context \"x\" needs a kubeconfig") && error.contains(K3S), "{error}");
    }

    #[test]
    fn without_any_source_the_error_lists_the_places_and_what_to_do() {
        let error = find(&[], &Wanted::default(), false, false).unwrap_err().to_string();
        for part in
            ["/a/config:/b/config does not exist", "/root/.kube/config", K3S, "not in a pod", "lab up"]
        {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(!error.contains('\n'));
    }
}
