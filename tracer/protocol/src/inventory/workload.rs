//! What pods belong to: Deployments, DaemonSets, StatefulSets, Jobs, ReplicaSets, under the names that kubectl takes.

/// Kinds of objects that own pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Workload {
    /// `deploy/NAME`.
    Deployment,
    /// `ds/NAME`.
    DaemonSet,
    /// `sts/NAME`.
    StatefulSet,
    /// `job/NAME`.
    Job,
    /// `rs/NAME`: one that no Deployment has made.
    ReplicaSet,
}

impl Workload {
    /// The kind that kubectl has under a name, whatever its case.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "deploy" | "deployment" | "deployments" => Self::Deployment,
            "ds" | "daemonset" | "daemonsets" => Self::DaemonSet,
            "sts" | "statefulset" | "statefulsets" => Self::StatefulSet,
            "job" | "jobs" => Self::Job,
            "rs" | "replicaset" | "replicasets" => Self::ReplicaSet,
            _ => return None,
        })
    }

    /// The name that messages have.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Deployment => "deployment",
            Self::DaemonSet => "daemonset",
            Self::StatefulSet => "statefulset",
            Self::Job => "job",
            Self::ReplicaSet => "replicaset",
        }
    }

    /// The short name, for endpoints.
    #[must_use]
    pub fn short(self) -> &'static str {
        match self {
            Self::Deployment => "deploy",
            Self::DaemonSet => "ds",
            Self::StatefulSet => "sts",
            Self::Job => "job",
            Self::ReplicaSet => "rs",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_the_names_of_kubectl() {
        for kind in [
            Workload::Deployment,
            Workload::DaemonSet,
            Workload::StatefulSet,
            Workload::Job,
            Workload::ReplicaSet,
        ] {
            for name in [kind.name().to_owned(), kind.short().to_owned(), format!("{}s", kind.name())] {
                assert_eq!(Workload::named(&name), Some(kind), "{name}");
            }
        }
        assert_eq!(
            (Workload::named("DaemonSet"), Workload::named("cronjob")),
            (Some(Workload::DaemonSet), None)
        );
    }
}
