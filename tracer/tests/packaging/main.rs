//! What installs agents in other ways than `podtrace manifest` installs the same: the Helm chart, the kustomization. And
//! krew's manifest names what is released.
//!
//! Helm and kustomize are not run: a renderer of this test's own knows as much of templates as the chart uses.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test that met it")]

mod template;

use std::fs;
use std::path::{Path, PathBuf};

use podtrace::cluster::kube::{default_image, manifest};
use serde_json::{Value, json};

/// A digest of no image.
const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging")
}

fn read(name: &str) -> String {
    let path = packaging().join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}

fn objects(yaml: &str) -> Vec<Value> {
    let all: Vec<Value> =
        serde_saphyr::from_multiple(yaml).unwrap_or_else(|error| panic!("{error}:\n{yaml}"));
    all.into_iter().filter(|object| !object.is_null()).collect()
}

/// The chart's objects, with these values in place of some defaults.
fn chart(changes: &[(&str, Value)]) -> Vec<Value> {
    let mut values: Value = serde_saphyr::from_str(&read("helm/podtrace/values.yaml")).unwrap();
    for (pointer, value) in changes {
        *values.pointer_mut(pointer).unwrap() = value.clone();
    }
    let chart: Value = serde_saphyr::from_str(&read("helm/podtrace/Chart.yaml")).unwrap();
    let context = json!({"Values": values, "Chart": {"AppVersion": chart["appVersion"]}});
    let rendered = ["agents", "admission"].map(|name| {
        template::render(&read(&format!("helm/podtrace/templates/{name}.yaml")), &context).unwrap()
    });
    rendered.iter().flat_map(|yaml| objects(yaml)).collect()
}

fn agents(objects: &[Value]) -> &Value {
    objects.iter().find(|object| object["kind"] == "DaemonSet").unwrap()
}

#[test]
fn the_chart_installs_what_the_manifest_does() {
    assert_eq!(chart(&[]), objects(&manifest(&default_image(), true)));
    let without = chart(&[("/admissionPolicy/create", json!(false))]);
    assert_eq!(without, objects(&manifest(&default_image(), false)));
    let by_digest =
        chart(&[("/image/repository", json!("r.example/podtrace")), ("/image/digest", json!(DIGEST))]);
    assert_eq!(by_digest, objects(&manifest(&format!("r.example/podtrace@{DIGEST}"), true)));
}

#[test]
fn values_of_the_chart_reach_the_pods() {
    let defaults = chart(&[]);
    let changed = chart(&[
        ("/namespace/create", json!(false)),
        ("/image/tag", json!("1.2.3")),
        ("/image/pullPolicy", json!("Always")),
        ("/image/pullSecrets", json!([{"name": "registry"}])),
        ("/nodeSelector", json!({"kubernetes.io/os": "linux", "traced": "yes"})),
        ("/tolerations", json!([])),
        ("/priorityClassName", json!("system-node-critical")),
        ("/resources", json!({"limits": {"memory": "1Gi"}})),
    ]);
    assert!(changed.iter().all(|object| object["kind"] != "Namespace"));
    let mut expected = agents(&defaults).clone();
    let spec = &mut expected["spec"]["template"]["spec"];
    spec["imagePullSecrets"] = json!([{"name": "registry"}]);
    spec["nodeSelector"]["traced"] = json!("yes");
    spec["tolerations"] = json!([]);
    spec["priorityClassName"] = json!("system-node-critical");
    let container = &mut spec["containers"][0];
    container["image"] = json!("localhost/podtrace:1.2.3");
    container["imagePullPolicy"] = json!("Always");
    container["resources"] = json!({"limits": {"memory": "1Gi"}});
    assert_eq!(*agents(&changed), expected);
}

#[test]
fn the_chart_has_podtraces_version() {
    let chart: Value = serde_saphyr::from_str(&read("helm/podtrace/Chart.yaml")).unwrap();
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    let notes = read("helm/podtrace/templates/NOTES.txt");
    let context = json!({"Chart": {"AppVersion": "7.8.9"}});
    assert!(template::render(&notes, &context).unwrap().contains("with podtrace 7.8.9"));
}

/// `PODTRACE_BLESS=1` writes the files anew.
#[test]
fn the_kustomization_has_the_manifest() {
    let kustomization: Value = serde_saphyr::from_str(&read("kustomize/kustomization.yaml")).unwrap();
    assert_eq!(kustomization["resources"], json!(["agents.yaml", "admission.yaml"]));
    let (without, whole) = (manifest(&default_image(), false), manifest(&default_image(), true));
    let admission = whole.strip_prefix(without.as_str()).unwrap();
    for (name, expected) in [("agents", without.as_str()), ("admission", admission)] {
        let name = format!("kustomize/{name}.yaml");
        if std::env::var_os("PODTRACE_BLESS").is_some() {
            fs::write(packaging().join(&name), expected).unwrap();
        }
        assert_eq!(read(&name), expected, "{name}: PODTRACE_BLESS=1 writes it anew");
    }
    // What an overlay's `images` replaces.
    let image = agents(&objects(&without))["spec"]["template"]["spec"]["containers"][0]["image"].clone();
    assert_eq!(image, format!("localhost/podtrace:{}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn krew_installs_the_program_that_kubectl_looks_for() {
    let plugin = objects(&read("krew/podtrace.yaml")).remove(0);
    assert_eq!(plugin["kind"], "Plugin");
    // krew's file has to be called so.
    assert_eq!(plugin["metadata"]["name"], "podtrace");
    // krew's own limits on what it lists.
    assert!(plugin["spec"]["shortDescription"].as_str().unwrap().len() <= 50);
    for platform in plugin["spec"]["platforms"].as_array().unwrap() {
        assert_eq!(platform["bin"], "podtrace");
        assert_eq!(platform["selector"]["matchLabels"]["os"], "linux");
        let from: Vec<_> = platform["files"].as_array().unwrap().iter().map(|file| &file["from"]).collect();
        assert!(
            from.contains(&&json!("podtrace-*/podtrace")) && from.contains(&&json!("podtrace-*/LICENSE-*"))
        );
        assert!(platform["uri"].as_str().unwrap().ends_with(".tar.gz"));
    }
}

#[test]
fn templates_are_rendered_as_helm_does() {
    let context = json!({"Values": {"on": true, "none": [], "text": "a", "list": [1]}});
    let render = |template: &str| template::render(template, &context);
    for (text, expected) in [
        ("x {{- /* comment */ -}}  y", "xy"),
        ("{{ if .Values.on }}1{{ else }}2{{ end }}", "1"),
        ("{{ if .Values.none }}1{{ else }}2{{ end }}", "2"),
        ("{{ with .Values.list }}{{ toYaml . | nindent 2 }}{{ end }}", "\n  [1]"),
        ("{{ with .Values.none }}{{ .Values.text }}{{ end }}", ""),
        ("a: {{ .Values.text | quote }}", "a: \"a\""),
        ("{{ if .Values.none }}{{ if .Values.on }}1{{ end }}2{{ end }}3", "3"),
    ] {
        assert_eq!(render(text).as_deref(), Ok(expected), "{text}");
    }
    for text in
        ["{{ .Values.gone }}", "{{ if .Values.on }}", "{{ end }}", "{{ .Values.text | upper }}", "{{ x"]
    {
        render(text).unwrap_err();
    }
}
