//! The tests that docs/security.md names exist.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test that met it")]

use std::fs;
use std::path::Path;

fn sources(directory: &Path, all: &mut String) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn each_named_test_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut all = String::new();
    for directory in ["tracer", "tests/tests"] {
        sources(&root.join(directory), &mut all);
    }
    let document = fs::read_to_string(root.join("docs/security.md")).unwrap();
    let rows = document.lines().filter(|line| line.starts_with("| ") && line.contains('`'));
    let mut named = 0;
    for row in rows {
        let tests = row.trim_end_matches('|').rsplit('|').next().unwrap();
        for name in tests.split('`').skip(1).step_by(2) {
            let is_there = all.contains(&format!("\"{name}\"")) || all.contains(&format!("fn {name}()"));
            assert!(is_there, "no test is called {name}");
            named += 1;
        }
    }
    assert!(named > 30, "only {named} tests are named");
}
