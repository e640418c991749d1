//! The thread that reads keys and draws, and what it shares with the session.

use std::collections::VecDeque;
use std::io::{self, Stdout};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, raise};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use ratatui::crossterm::style::force_color_output;

use super::draw::{self, Frame};
use super::keys::{Asked, Choice};
use crate::session::Progress;
use crate::terminal::{self, Taken};
use podtrace_report::top::{Board, Opened, Row};

/// How often is drawn at least.
const EVERY: Duration = Duration::from_millis(250);

/// How long a terminal may take for the last of it.
const LAST: Duration = Duration::from_secs(2);

/// Messages that are kept for the end.
const KEPT: usize = 200;

/// What the session fills and the view shows.
#[derive(Clone, Debug, Default)]
pub struct Shared(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    board: Board,
    progress: Option<Progress>,
}

/// Messages that wait until the terminal is free again.
#[derive(Clone, Debug, Default)]
pub struct Messages(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<String>,
    dropped: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Works on the numbers.
    pub fn board<T>(&self, work: impl FnOnce(&mut Board) -> T) -> T {
        work(&mut lock(&self.0).board)
    }

    /// The trace goes on.
    pub fn progress(&self, now: Progress) {
        lock(&self.0).progress = Some(now);
    }
}

impl Messages {
    /// Adds one.
    pub fn push(&self, line: String) {
        let mut waiting = lock(&self.0);
        if waiting.lines.len() == KEPT {
            waiting.lines.pop_front();
            waiting.dropped += 1;
        }
        waiting.lines.push_back(line);
    }

    fn last(&self) -> Option<String> {
        lock(&self.0).lines.back().cloned()
    }

    /// All that wait, and how many older ones are lost.
    #[must_use]
    pub fn take(&self) -> (Vec<String>, u64) {
        let mut waiting = lock(&self.0);
        (std::mem::take(&mut waiting.lines).into(), std::mem::take(&mut waiting.dropped))
    }
}

/// The live view; ends, and gives the terminal back, when dropped.
#[derive(Debug)]
pub struct View {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// Disconnected when the thread ends.
    end: Receiver<()>,
}

impl View {
    /// Takes the terminal and begins to draw; `NO_COLOR` is honoured, too.
    ///
    /// # Errors
    ///
    /// If the terminal cannot be used.
    pub fn begin(title: String, shared: Shared, messages: Messages, is_coloured: bool) -> Result<Self> {
        if !is_coloured {
            force_color_output(false);
        }
        let taken = Taken::take()?;
        let mut terminal =
            Terminal::new(CrosstermBackend::new(io::stdout())).context("reading the terminal's size")?;
        let is_over = Arc::<AtomicBool>::default();
        let over = is_over.clone();
        let (ended, end) = mpsc::channel::<()>();
        let thread = thread::Builder::new().name("view".to_owned()).spawn(move || {
            let _ended = ended;
            let _taken = taken;
            // Without a view nobody could ask for the end any more.
            let _end = EndOnDrop(over.clone());
            let mut frame = Frame { title, ..Frame::default() };
            // A terminal that is gone ends the trace.
            let _ = run(&mut terminal, &mut frame, &shared, &messages, &over);
        });
        Ok(Self { is_over, thread: Some(thread.context("starting a thread")?), end })
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let waits = self.end.recv_timeout(LAST) == Err(RecvTimeoutError::Timeout);
        if waits {
            // The terminal takes nothing more: it is not waited for, and ends with the process.
            terminal::leave_raw_mode();
        } else if let Some(thread) = self.thread.take() {
            // A panic there was reported by its hook.
            let _ = thread.join();
        }
    }
}

/// Ends the trace when dropped, unless it is over.
struct EndOnDrop(Arc<AtomicBool>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        if !self.0.load(Ordering::Relaxed) {
            end();
        }
    }
}

/// Asks the session for the end, as Ctrl-C does where the terminal makes a signal of it: a second time ends it at once.
fn end() {
    // It fails for no valid signal.
    let _ = raise(Signal::SIGINT);
}

fn run(
    terminal: &mut Terminal<CrosstermBackend<Stdout>>,
    frame: &mut Frame,
    shared: &Shared,
    messages: &Messages,
    is_over: &AtomicBool,
) -> io::Result<()> {
    let mut drawn_at: Option<Instant> = None;
    while !is_over.load(Ordering::Relaxed) && terminal::is_taken() {
        let due = drawn_at.map_or(Duration::ZERO, |at| EVERY.saturating_sub(at.elapsed()));
        let mut has_input = terminal::has_input(due)?;
        while has_input && event::poll(Duration::ZERO)? {
            has_input = !is_over.load(Ordering::Relaxed);
            let Event::Key(key) = event::read()? else { continue };
            if key.kind == KeyEventKind::Release {
                continue;
            }
            match frame.choice.handle(key) {
                Asked::Quit => {
                    if frame.progress.is_none() {
                        // There is nothing to wait for, and perhaps nobody yet who handles the signal. The end of this
                        // thread asks for it.
                        terminal::give_back();
                        return Ok(());
                    }
                    frame.is_ending = true;
                    end();
                }
                Asked::Open => open(frame, shared, terminal.size()?.width.into()),
                Asked::Nothing => {}
            }
        }
        refresh(frame, shared, messages);
        if terminal::is_taken() {
            terminal.draw(|canvas| draw::draw(frame, canvas))?;
        }
        drawn_at = Some(Instant::now());
    }
    Ok(())
}

/// What has changed since the last time. While the view is paused, the numbers stay, and can be looked through.
fn refresh(frame: &mut Frame, shared: &Shared, messages: &Messages) {
    frame.message = messages.last();
    if frame.choice.opened.is_none() {
        frame.opened = None;
    }
    let Choice { tab, sort, filter, is_paused, .. } = &frame.choice;
    let state = lock(&shared.0);
    let is_shown = (frame.screen.tab, frame.screen.sort, &frame.screen.filter) == (*tab, *sort, filter);
    frame.progress = state.progress;
    if !(*is_paused && is_shown) {
        frame.screen = state.board.screen(*tab, *sort, filter);
    }
    let last = frame.screen.rows.len().saturating_sub(1);
    frame.choice.selected = frame.choice.selected.min(last);
}

/// Opens the selected row's packet.
fn open(frame: &mut Frame, shared: &Shared, width: usize) {
    let Some(row) = frame.screen.rows.get(frame.choice.selected) else { return };
    let state = lock(&shared.0);
    let packet = match row {
        Row::Flow(flow) => state.board.newest_of_flow(flow.id),
        row => row.packet(),
    };
    frame.opened = Some(match packet {
        Some(packet) => state.board.open(packet, width),
        None => Opened {
            title: String::new(),
            lines: vec!["No packet of this flow is kept any more; -w FILE records all of them.".to_owned()],
        },
    });
    frame.choice.opened = Some(0);
}
