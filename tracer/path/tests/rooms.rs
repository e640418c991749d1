//! The rooms of this crate use one another in one direction only, the one that `lib.rs` says.

use std::io;
use std::path::{Path, PathBuf};

/// Lowest first.
const ROOMS: [&str; 12] = [
    "model",
    "change",
    "context",
    "memory",
    "time",
    "node",
    "world",
    "observation",
    "label",
    "join",
    "finish",
    "engine",
];

#[test]
fn each_room_uses_only_those_below_it() -> io::Result<()> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = 0;
    for (level, room) in ROOMS.iter().enumerate() {
        for file in files_of(&source, room)? {
            files += 1;
            let text = std::fs::read_to_string(&file)?;
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<String>();
            for used in code.split("crate::").skip(1) {
                let used: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let allowed =
                    ROOMS.iter().position(|other| *other == used).is_none_or(|other| other <= level);
                assert!(allowed, "{} uses {used}, which is above it", file.display());
            }
        }
    }
    let mut all = 0;
    for entry in std::fs::read_dir(&source)? {
        let path = entry?.path();
        let room = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        all += files_of(&source, room)?.len();
    }
    assert_eq!(files + 1, all, "every file but lib.rs is of a room");
    Ok(())
}

fn files_of(source: &Path, room: &str) -> io::Result<Vec<PathBuf>> {
    let file = source.join(format!("{room}.rs"));
    if file.is_file() {
        return Ok(vec![file]);
    }
    let (mut files, mut folders) = (Vec::new(), vec![source.join(room)]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    Ok(files)
}
