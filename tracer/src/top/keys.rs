//! What keys do.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use podtrace_report::top::{Sort, Tab};

/// What the user has chosen to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) tab: Tab,
    pub(super) sort: Sort,
    pub(super) filter: String,
    /// Whether the filter is being typed.
    pub(super) is_typing: bool,
    pub(super) is_paused: bool,
    /// Which row is selected.
    pub(super) selected: usize,
    /// Whether it is open, and how far its text is scrolled.
    pub(super) opened: Option<usize>,
}

/// What a key asks for, besides another choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Nothing,
    Quit,
    /// Open the selected row.
    Open,
}

/// Characters of a filter at most.
const LONGEST: usize = 60;

/// How far a page scrolls.
const PAGE: usize = 10;

impl Choice {
    /// Handles a key.
    pub(super) fn handle(&mut self, key: KeyEvent) -> Asked {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            // Raw mode makes no signal of it.
            KeyCode::Char('c' | 'd') if control => return Asked::Quit,
            _ if control => return Asked::Nothing,
            _ if self.is_typing => self.edit(key.code),
            KeyCode::Char('q') => return Asked::Quit,
            code if self.opened.is_some() => self.scroll(code),
            KeyCode::Esc if self.filter.is_empty() => return Asked::Quit,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('1') => self.look_at(Tab::Routes),
            KeyCode::Char('2') => self.look_at(Tab::Flows),
            KeyCode::Char('3') => self.look_at(Tab::Causes),
            KeyCode::Tab | KeyCode::Right | KeyCode::Char('l') => self.look_at(match self.tab {
                Tab::Routes => Tab::Flows,
                Tab::Flows => Tab::Causes,
                Tab::Causes => Tab::Routes,
            }),
            KeyCode::BackTab | KeyCode::Left | KeyCode::Char('h') => self.look_at(match self.tab {
                Tab::Routes => Tab::Causes,
                Tab::Flows => Tab::Routes,
                Tab::Causes => Tab::Flows,
            }),
            KeyCode::Char('p' | ' ') => self.is_paused = !self.is_paused,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('/' | 'f') => self.is_typing = true,
            KeyCode::Down | KeyCode::Char('j') => self.selected = self.selected.saturating_add(1),
            KeyCode::Up | KeyCode::Char('k') => self.selected = self.selected.saturating_sub(1),
            KeyCode::PageDown => self.selected = self.selected.saturating_add(PAGE),
            KeyCode::PageUp => self.selected = self.selected.saturating_sub(PAGE),
            KeyCode::Home | KeyCode::Char('g') => self.selected = 0,
            KeyCode::Enter => return Asked::Open,
            _ => {}
        }
        Asked::Nothing
    }

    /// Another tab begins at its first row.
    fn look_at(&mut self, tab: Tab) {
        (self.tab, self.selected) = (tab, 0);
    }

    fn edit(&mut self, code: KeyCode) {
        self.selected = 0;
        match code {
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                self.is_typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(character) if self.filter.chars().count() < LONGEST => self.filter.push(character),
            _ => {}
        }
    }

    fn scroll(&mut self, code: KeyCode) {
        let Some(at) = &mut self.opened else { return };
        match code {
            KeyCode::Down | KeyCode::Char('j') => *at = at.saturating_add(1),
            KeyCode::Up | KeyCode::Char('k') => *at = at.saturating_sub(1),
            KeyCode::PageDown | KeyCode::Char(' ') => *at = at.saturating_add(PAGE),
            KeyCode::PageUp => *at = at.saturating_sub(PAGE),
            KeyCode::Home | KeyCode::Char('g') => *at = 0,
            KeyCode::Esc | KeyCode::Enter | KeyCode::Backspace => self.opened = None,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(choice: &mut Choice, codes: &[KeyCode]) -> Vec<Asked> {
        codes.iter().map(|code| choice.handle(KeyEvent::new(*code, KeyModifiers::NONE))).collect()
    }

    #[test]
    fn every_key_does_what_the_footer_says() {
        let mut choice = Choice::default();
        press(&mut choice, &[KeyCode::Tab, KeyCode::Char('p'), KeyCode::Char('s'), KeyCode::Down]);
        assert_eq!((choice.tab, choice.sort), (Tab::Flows, Sort::Packets));
        assert!(choice.is_paused && choice.selected == 1);
        press(&mut choice, &[KeyCode::Char('3')]);
        assert_eq!((choice.tab, choice.selected), (Tab::Causes, 0));
        assert_eq!(press(&mut choice, &[KeyCode::Enter, KeyCode::Char('q')]), [Asked::Open, Asked::Quit]);
    }

    #[test]
    fn a_filter_is_typed_and_taken_back() {
        let mut choice = Choice::default();
        press(&mut choice, &[KeyCode::Char('/'), KeyCode::Char('q'), KeyCode::Char('x'), KeyCode::Backspace]);
        assert_eq!(choice.filter, "q", "q is a letter while the filter is typed");
        press(&mut choice, &[KeyCode::Enter]);
        assert!(!choice.is_typing && choice.filter == "q");
        assert_eq!(press(&mut choice, &[KeyCode::Esc, KeyCode::Esc]), [Asked::Nothing, Asked::Quit]);
        press(&mut choice, &[KeyCode::Char('/')]);
        press(&mut choice, &[KeyCode::Char('a'); 100]);
        assert_eq!(choice.filter.len(), LONGEST);
    }

    #[test]
    fn what_is_open_scrolls_and_closes() {
        let mut choice = Choice { opened: Some(0), ..Choice::default() };
        press(&mut choice, &[KeyCode::Down, KeyCode::PageDown, KeyCode::Up]);
        assert_eq!(choice.opened, Some(PAGE));
        assert_eq!(press(&mut choice, &[KeyCode::Esc]), [Asked::Nothing]);
        assert_eq!(choice.opened, None);
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        choice.is_typing = true;
        assert_eq!(choice.handle(interrupt), Asked::Quit);
    }
}
