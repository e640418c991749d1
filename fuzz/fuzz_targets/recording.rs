//! A file with any content: read as a recording, its paths shown, and recorded again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use podtrace_path::Engine;
use podtrace_report::recording::{Item, Reader, Writer};
use podtrace_report::output::{Json, Report as _, Text};

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut reader) = Reader::new(bytes) else { return };
    let header = reader.header().clone();
    let mut engine = Engine::new(header.context.clone());
    let mut writer = Writer::new(header);
    let (mut json, mut text) = (Json::new(std::io::sink()), Text::wide(std::io::sink()));
    let mut paths = Vec::new();
    while let Some(next) = reader.next_entry() {
        match next {
            Item::Node(node, frame) => {
                writer.frame(node, frame.as_ref());
                match &frame {
                    Some(frame) => engine.ingest(node, frame, &mut paths),
                    None => engine.node_ended(node),
                }
            }
            Item::Cluster(update) => {
                engine.update(&update);
                writer.update(&update);
                for change in &update.changes {
                    json.change(change).expect("nothing fails to vanish");
                    text.change(change).expect("nothing fails to vanish");
                }
            }
        }
        for path in &mut paths {
            podtrace_report::diagnose::Diagnosis::default().annotate(path);
            writer.path(path);
            json.path(path).expect("nothing fails to vanish");
            text.path(path).expect("nothing fails to vanish");
        }
        paths.clear();
        writer.take();
    }
    let summary = engine.finish(&mut paths);
    writer.end(&summary);
    let _ = reader.damage();
});
