//! Kubernetes itself, built once from Debian's source package: what `make` would do, without its containers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::debian::Debian;
use crate::{apt, run};

/// Programs of Kubernetes.
const PROGRAMS: [&str; 6] =
    ["kube-apiserver", "kubectl", "kube-proxy", "kubelet", "kube-scheduler", "kube-controller-manager"];

/// Whose variables say what version it is.
const VERSION_PACKAGE: &str = "k8s.io/kubernetes/vendor/k8s.io/component-base/version";

/// What the sources are told to be: Debian's package is this version, whatever its name says.
const VERSION: [(&str, &str); 3] = [("gitVersion", "v1.20.2"), ("gitMajor", "1"), ("gitMinor", "20")];

/// The import path of the sources.
const IMPORT: &str = "k8s.io/kubernetes";

/// How what has a schema is marked in the sources, which come without what is generated of it.
const SCHEMA_MARK: &str = "+k8s:openapi-gen=true";

/// Directories with such marks that are of no use.
const WITHOUT_SCHEMA: [&str; 3] = ["_examples", "sample-apiserver", "testdata"];

/// The programs, in a directory of the cache.
pub(super) struct Binaries {
    directory: PathBuf,
}

impl Binaries {
    /// Those that were built once.
    pub(super) fn cached(cache: &Path) -> Option<Self> {
        let directory = cache.join("bin");
        PROGRAMS.iter().all(|program| directory.join(program).is_file()).then_some(Self { directory })
    }

    /// Those that were built once, else they are built now.
    pub(super) fn provide(cache: &Path) -> Result<Self> {
        if let Some(cached) = Self::cached(cache) {
            return Ok(cached);
        }
        eprintln!("Kubernetes is built once from Debian's source package, which takes about 20 minutes");
        Build::prepare(cache)?.build()?;
        Self::cached(cache).context("the build of Kubernetes has not left all its programs")
    }

    /// Where a program is.
    pub(super) fn path(&self, program: &str) -> PathBuf {
        self.directory.join(program)
    }
}

/// A build under way.
struct Build {
    cache: PathBuf,
    sources: PathBuf,
    go: PathBuf,
}

impl Build {
    /// Fetches sources and compiler.
    fn prepare(cache: &Path) -> Result<Self> {
        apt::install(&["gcc", "libc6-dev", "tar"], "Kubernetes is built with them")?;
        let bin = cache.join("bin");
        fs::create_dir_all(&bin).with_context(|| format!("cannot create {}", bin.display()))?;
        let sources = cache.join("gopath/src").join(IMPORT);
        let debian = Debian::open(cache)?;
        let go = debian.go()?;
        if !sources.join("cmd/kubelet").is_dir() {
            let archive = debian.kubernetes()?;
            fs::create_dir_all(&sources).with_context(|| format!("cannot create {}", sources.display()))?;
            let mut tar = Command::new("tar");
            tar.arg("-xf").arg(archive).args(["--strip-components", "1", "-C"]).arg(&sources);
            run::step("unpacking Kubernetes", &mut tar)?;
        }
        Ok(Self { cache: cache.to_owned(), sources, go })
    }

    fn build(&self) -> Result<()> {
        self.schemas()?;
        let variables = VERSION.map(|(name, value)| format!("-X {VERSION_PACKAGE}.{name}={value}"));
        let flags = format!("-s -w {}", variables.join(" "));
        for program in PROGRAMS {
            self.go_build(program, &format!("{IMPORT}/cmd/{program}"), &["-ldflags", &flags])?;
        }
        // Some gigabytes that nothing needs any more.
        for made in ["gopath", "gocache", "go"] {
            let made = self.cache.join(made);
            if made.exists() {
                fs::remove_dir_all(&made).with_context(|| format!("cannot remove {}", made.display()))?;
            }
        }
        Ok(())
    }

    /// Builds a package, whose program comes into the cache only when it is whole.
    fn go_build(&self, program: &str, package: &str, options: &[&str]) -> Result<()> {
        let bin = self.cache.join("bin");
        let (half, whole) = (bin.join(format!("{program}.half")), bin.join(program));
        let mut go = self.command(&self.go.join("bin/go"));
        go.arg("build").args(options).arg("-o").arg(&half).arg(package);
        run::step(&format!("building {program}"), &mut go)?;
        fs::rename(&half, &whole).with_context(|| format!("cannot write {}", whole.display()))
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.sources);
        command.env("GOROOT", &self.go).env("GOPATH", self.cache.join("gopath"));
        command.env("GOCACHE", self.cache.join("gocache"));
        command.envs([
            ("GO111MODULE", "off"),
            ("CGO_ENABLED", "0"),
            ("GOFLAGS", ""),
            ("GOTOOLCHAIN", "local"),
        ]);
        command
    }

    /// Generates the schemas of what the API servers serve, which are no part of the sources.
    fn schemas(&self) -> Result<()> {
        self.go_build("openapi-gen", &format!("{IMPORT}/vendor/k8s.io/kube-openapi/cmd/openapi-gen"), &[])?;
        let staging = "staging/src/k8s.io";
        let server = "pkg/generated/openapi";
        let mut wanted = vec![(
            vec!["staging/src".to_owned(), "pkg".to_owned(), "vendor/k8s.io".to_owned()],
            format!("{IMPORT}/{server}"),
        )];
        for name in ["kube-aggregator", "apiextensions-apiserver"] {
            let from = [name, "apimachinery", "api"].map(|part| format!("{staging}/{part}"));
            wanted.push((from.into(), format!("{IMPORT}/vendor/k8s.io/{name}/{server}")));
        }
        for (from, package) in wanted {
            let marked = self.marked(&from)?;
            ensure!(!marked.is_empty(), "nothing in the sources of Kubernetes is marked with {SCHEMA_MARK}");
            let mut generate = self.command(&self.cache.join("bin/openapi-gen"));
            generate.args(["-O", "zz_generated.openapi", "--go-header-file"]);
            generate.args(["hack/boilerplate/boilerplate.generatego.txt", "-r", "/dev/null"]);
            generate.args(["--input-dirs", &marked.join(","), "--output-package", &package, "--output-base"]);
            generate.arg(self.cache.join("gopath/src"));
            // It fails where a schema breaks a rule of style, after it has written all of them.
            let told = run::step(&format!("generating {package}"), &mut generate);
            let made = self.cache.join("gopath/src").join(&package).join("zz_generated.openapi.go");
            if !made.is_file() {
                told?;
            }
        }
        Ok(())
    }

    /// The packages with marks below these directories, by their import paths.
    fn marked(&self, directories: &[String]) -> Result<Vec<String>> {
        let mut grep = Command::new("grep");
        grep.current_dir(&self.sources).args(["-rl", "--include=*.go", SCHEMA_MARK]).args(directories);
        let files = run::ask(&mut grep).context("cannot search the sources of Kubernetes")?;
        Ok(packages(&files))
    }
}

/// The import paths of the packages that these files are in.
fn packages(files: &str) -> Vec<String> {
    let directories = files.lines().filter_map(|file| file.rsplit_once('/').map(|(directory, _)| directory));
    let useful = directories.filter(|directory| !WITHOUT_SCHEMA.iter().any(|part| directory.contains(part)));
    let mut packages: Vec<_> = useful
        .map(|directory| match directory.strip_prefix("staging/src/") {
            // What is developed there is linked from the vendored packages.
            Some(staged) => format!("{IMPORT}/vendor/{staged}"),
            None => format!("{IMPORT}/{directory}"),
        })
        .collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_named_once_as_they_are_imported() {
        let files = "staging/src/k8s.io/api/core/v1/types.go\nstaging/src/k8s.io/api/core/v1/doc.go\n\
                     pkg/apis/x/doc.go\nvendor/k8s.io/metrics/doc.go\nstaging/src/k8s.io/sample-apiserver/a/doc.go\n";
        let expected = [
            "k8s.io/kubernetes/pkg/apis/x",
            "k8s.io/kubernetes/vendor/k8s.io/api/core/v1",
            "k8s.io/kubernetes/vendor/k8s.io/metrics",
        ];
        assert_eq!(packages(files), expected);
    }

    #[test]
    fn half_a_build_is_none() {
        let cache = tempfile::tempdir().unwrap();
        fs::create_dir(cache.path().join("bin")).unwrap();
        for program in &PROGRAMS[1..] {
            fs::write(cache.path().join("bin").join(program), "").unwrap();
        }
        assert!(Binaries::cached(cache.path()).is_none());
        fs::write(cache.path().join("bin").join(PROGRAMS[0]), "").unwrap();
        assert!(Binaries::cached(cache.path()).is_some());
    }
}
