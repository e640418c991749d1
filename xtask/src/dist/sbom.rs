//! The bill of materials of a binary, in CycloneDX's JSON: every crate that is linked, with its checksum and licence, and
//! what the toolchain adds.

use serde_json::{Value, json};

use super::crates::Linked;
use crate::architecture::Architecture;

/// The document. The same input gives the same bytes: it has no serial number, and its time is that of the sources.
pub(crate) fn cyclonedx(linked: &[Linked], architecture: Architecture, rustc: &str, made_at: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut components: Vec<_> =
        linked.iter().filter(|this| this.name != "podtrace").map(component).collect();
    components.push(json!({
        "type": "library", "bom-ref": "rust-std", "name": "rust-std", "version": rustc,
        "description": "Rust's standard library, as the toolchain has it compiled",
        "licenses": [{"expression": "MIT OR Apache-2.0"}],
    }));
    components.push(json!({
        "type": "library", "bom-ref": "musl", "name": "musl",
        "description": "the C library that Rust's toolchain brings for this target; its version is the toolchain's choice",
        "licenses": [{"license": {"id": "MIT"}}],
    }));
    let document = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": made_at,
            "component": {
                "type": "application", "bom-ref": "podtrace", "name": "podtrace", "version": version,
                "purl": format!("pkg:cargo/podtrace@{version}"),
                "licenses": [{"expression": "MIT OR Apache-2.0"}],
                "properties": [{"name": "podtrace:target", "value": architecture.musl()}],
            },
        },
        "components": components,
    });
    format!("{document:#}\n")
}

fn component(linked: &Linked) -> Value {
    let Linked { name, version, licence, repository, checksum, .. } = linked;
    let url = format!("pkg:cargo/{name}@{version}");
    let mut component = json!({
        "type": "library", "bom-ref": url, "name": name, "version": version, "purl": url,
        "licenses": [{"expression": licence}],
    });
    if let Some(checksum) = checksum {
        component["hashes"] = json!([{"alg": "SHA-256", "content": checksum}]);
    }
    if let Some(repository) = repository {
        component["externalReferences"] = json!([{"type": "vcs", "url": repository}]);
    }
    component
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_linked_crate_is_a_component() {
        let linked = super::super::crates::linked(Architecture::Aarch64).unwrap();
        let text = cyclonedx(&linked, Architecture::Aarch64, "1.95.0", "2026-01-01T00:00:00Z");
        let document: Value = serde_json::from_str(&text).unwrap();
        let components = document["components"].as_array().unwrap();
        // podtrace itself is what the document is about; the standard library and musl come besides.
        assert_eq!(components.len(), linked.len() - 1 + 2);
        let bytes = components.iter().find(|component| component["name"] == "bytes").unwrap();
        assert_eq!(bytes["hashes"][0]["content"].as_str().unwrap().len(), 64);
        assert_eq!(bytes["licenses"][0]["expression"], "MIT");
        let mut references: Vec<_> =
            components.iter().map(|this| this["bom-ref"].as_str().unwrap()).collect();
        references.sort_unstable();
        references.dedup();
        assert_eq!(references.len(), components.len(), "references are unique");
    }
}
