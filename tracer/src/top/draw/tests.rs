//! Frames on a terminal that is a table of characters, compared with the files in `snapshots`. `PODTRACE_BLESS=1` renews them.

use std::path::Path as FilePath;
use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use podtrace_path::{Path, Verdict};
use podtrace_report::output::samples;
use podtrace_report::top::{Board, Sort};

fn drawn(frame: &Frame, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|canvas| draw(frame, canvas)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let line = |y: u16| {
        let line: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
        line.trim_end().to_owned() + "\n"
    };
    (0..height).map(line).collect()
}

fn board() -> Board {
    let mut board = Board::default();
    for id in 1..=40_u64 {
        let mut path = samples::cross_node_request();
        path.id = 2 * id;
        for (index, hop) in path.hops.iter_mut().enumerate() {
            hop.at_ns = hop.at_ns.map(|at| at + i64::try_from(id * 700 * (index as u64 % 3)).unwrap());
        }
        if id.is_multiple_of(8) {
            path.hops.truncate(4);
            path.verdict = Verdict::Vanished;
        }
        board.add(&path);
        board.add(&Path { id: 2 * id + 1, ..samples::cross_node_reply() });
    }
    board.add(&Path { id: 100, ..samples::dropped() });
    board.add(&Path { id: 101, ..samples::split_tcp() });
    board
}

fn frame(choice: Choice) -> Frame {
    let board = board();
    Frame {
        title: "default/pod1 → default/pod3".to_owned(),
        screen: board.screen(choice.tab, choice.sort, &choice.filter),
        opened: choice.opened.map(|_| board.open(100, 80)),
        choice,
        progress: Some(Progress { elapsed: Duration::from_secs(74), under_way: 2, ..Progress::default() }),
        message: None,
        is_ending: false,
    }
}

fn compare(name: &str, width: u16, text: &str) {
    let path =
        FilePath::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/top/snapshots/{name}-{width}.txt"));
    if std::env::var_os("PODTRACE_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{} is another; PODTRACE_BLESS=1 renews it", path.display());
}

#[test]
fn every_tab_is_drawn_as_in_its_snapshot() {
    for (name, choice) in [
        ("routes", Choice::default()),
        ("second-route", Choice { selected: 1, ..Choice::default() }),
        ("flows", Choice { tab: Tab::Flows, sort: Sort::Packets, ..Choice::default() }),
        ("causes", Choice { tab: Tab::Causes, is_paused: true, ..Choice::default() }),
        ("packet", Choice { opened: Some(0), ..Choice::default() }),
        ("filter", Choice { filter: "no such text".to_owned(), is_typing: true, ..Choice::default() }),
    ] {
        for width in [80, 200] {
            compare(name, width, &drawn(&frame(choice.clone()), width, 24));
        }
    }
}

#[test]
fn lost_packets_have_their_place_and_their_share() {
    let text = drawn(&frame(Choice::default()), 80, 24);
    assert!(text.contains("✗ 5 lost here: vanished"), "{text}");
    let arrived = text.lines().find(|line| line.contains("arrived")).unwrap();
    assert!(arrived.contains(" 35 ") && arrived.contains("12.5"), "{arrived}");
}

#[test]
fn text_from_outside_cannot_control_the_terminal() {
    let mut shown = frame(Choice::default());
    shown.title = "pod\u{1b}[2J\u{202e}".to_owned();
    shown.message = Some("warning: \u{1b}]0;x\u{7}".to_owned());
    let text = drawn(&shown, 80, 24);
    assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}') && !text.contains('\u{7}'), "{text}");
}

#[test]
fn any_size_can_be_drawn() {
    for tab in [Tab::Routes, Tab::Flows, Tab::Causes] {
        for (width, height) in [(1, 1), (20, 3), (40, 10), (79, 24), (400, 120)] {
            for selected in [0, 2, usize::MAX] {
                drawn(&frame(Choice { tab, selected, ..Choice::default() }), width, height);
            }
        }
    }
    assert!(drawn(&Frame::default(), 80, 24).contains("starting agents"));
}

#[test]
fn numbers_and_times_keep_to_their_columns() {
    for ns in [0, 7, 99_949, 999_499, 999_500, 12_345_678, 999_499_999, 999_500_000, u64::MAX] {
        assert!(time(ns).chars().count() <= 5, "{}", time(ns));
    }
    for number in [0, 99_999, 100_000, 999_999, 1_000_000, 999_999_999] {
        assert!(short(number).chars().count() <= NUMBER, "{}", short(number));
    }
    assert_eq!(spark(&[1, 1, 8, 15], 3), "▁▄█");
}
