//! A test that the rooms of each crate, which are the modules at its top, do not use one another in a circle.
//!
//! It reads the paths that begin with `crate` or lead there by `super`. Modules of tests are left out: a test may look
//! at what is above it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::targets;

/// Which room uses which, and a file that shows it.
type Uses = BTreeMap<String, BTreeMap<String, PathBuf>>;

#[test]
fn rooms_of_a_crate_do_not_use_each_other_in_a_circle() {
    for package in targets::packages().unwrap() {
        let manifest = Path::new(package["manifest_path"].as_str().unwrap());
        let source = manifest.with_file_name("src");
        let mut uses = Uses::new();
        for file in files(&source) {
            let inside = file.strip_prefix(&source).unwrap();
            let module = module(inside);
            let Some(room) = module.first().filter(|_| !is_test(&module)) else { continue };
            let text = fs::read_to_string(&file).unwrap();
            let used = used(&text, module.len());
            let others = used.into_iter().filter(|used| used != room && is_room(&source, used));
            let entry = uses.entry(room.clone()).or_default();
            entry.extend(others.map(|other| (other, inside.to_owned())));
        }
        let name = package["name"].as_str().unwrap();
        let circle = circle(&uses);
        assert!(circle.is_empty(), "rooms of {name} use each other in a circle: {circle:?}");
    }
}

#[test]
fn paths_to_the_top_are_found() {
    let text = "use crate::{run, vm::{self, crate_of}};\n// crate::comment\nuse super::super::top;\nuse super::near;\n\
                fn f() { crate::one::two(); }\n#[cfg(test)]\nmod tests { use crate::test_only; }\n";
    assert_eq!(used(text, 2), ["one", "run", "top", "vm"].map(str::to_owned).into());
}

#[test]
fn circles_are_found() {
    let uses = |pairs: &[(&str, &str)]| {
        let mut uses = Uses::new();
        for (from, to) in pairs {
            uses.entry((*from).to_owned()).or_default().insert((*to).to_owned(), PathBuf::from("f.rs"));
        }
        uses
    };
    assert_eq!(circle(&uses(&[("a", "b"), ("b", "c"), ("a", "c")])), Vec::<String>::new());
    assert_eq!(
        circle(&uses(&[("a", "b"), ("b", "c"), ("c", "b")])),
        ["b uses c in f.rs", "c uses b in f.rs"]
    );
}

/// All Rust files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}

/// The module in a file: nothing for a crate's root, `a`, `b` for `a/b.rs`.
fn module(file: &Path) -> Vec<String> {
    let names = file.with_extension("");
    let mut names: Vec<_> = names.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    if names.last().is_some_and(|last| last == "mod") {
        names.pop();
    }
    // Each program in `bin` is a crate of its own.
    let is_root = names == ["lib"] || names == ["main"] || names.first().is_some_and(|first| first == "bin");
    if is_root { Vec::new() } else { names }
}

fn is_test(module: &[String]) -> bool {
    module.iter().any(|name| name == "tests" || name.ends_with("_tests"))
}

fn is_room(source: &Path, name: &str) -> bool {
    source.join(name).is_dir() || source.join(name).with_extension("rs").is_file()
}

/// What a module this deep uses from the crate's top.
fn used(text: &str, depth: usize) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let code: Vec<_> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let top = "super::".repeat(depth);
    let mut used = BTreeSet::new();
    for (start, up) in ["crate::", top.as_str()].into_iter().flat_map(|up| code.match_indices(up)) {
        let before = code[..start].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        used.extend(names(&code[start + up.len()..]));
    }
    used
}

/// The names with which the rest of a path begins: one, or those of a group in braces.
fn names(rest: &str) -> Vec<String> {
    let name = |text: &str| text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let Some(group) = rest.strip_prefix('{') else { return vec![name(rest)] };
    let (mut names, mut depth, mut from) = (Vec::new(), 0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                names.push(name(&group[from..at]));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(name(&group[from..at]));
                from = at + 1;
            }
            _ => {}
        }
    }
    names
}

/// The uses that lead back to where they come from.
fn circle(uses: &Uses) -> Vec<String> {
    let reaches = |from: &str, to: &str| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(room) = next.pop() {
            if room == to {
                return true;
            }
            if seen.insert(room) {
                next.extend(uses.get(room).into_iter().flat_map(BTreeMap::keys).map(String::as_str));
            }
        }
        false
    };
    let all = uses.iter().flat_map(|(from, used)| used.iter().map(move |(to, file)| (from, to, file)));
    let back = all.filter(|(from, to, _)| reaches(to, from));
    back.map(|(from, to, file)| format!("{from} uses {to} in {}", file.display())).collect()
}
