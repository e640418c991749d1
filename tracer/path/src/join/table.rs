//! A table whose places are reused and whose keys are not: a key of an entry that was removed finds nothing.

use std::ops::{Index, IndexMut};

use slab::Slab;

/// A key of a [`Table`]. Keys are ordered by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    serial: u64,
    place: usize,
}

impl Key {
    /// The entry's number among all that a table ever had.
    pub(crate) fn serial(self) -> u64 {
        self.serial
    }
}

/// Entries, each with the serial number it was given.
#[derive(Debug)]
pub(crate) struct Table<T> {
    entries: Slab<(u64, T)>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { entries: Slab::new() }
    }
}

impl<T> Table<T> {
    /// Adds an entry. No serial number may be used twice.
    pub(crate) fn insert(&mut self, serial: u64, value: T) -> Key {
        Key { serial, place: self.entries.insert((serial, value)) }
    }

    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        self.entries.get(key.place).filter(|(serial, _)| *serial == key.serial).map(|(_, value)| value)
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        self.entries.get_mut(key.place).filter(|(serial, _)| *serial == key.serial).map(|(_, value)| value)
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        self.get(key)?;
        Some(self.entries.remove(key.place).1)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.entries.iter().map(|(place, (serial, value))| (Key { serial: *serial, place }, value))
    }
}

/// For keys that are known to be valid.
impl<T> Index<Key> for Table<T> {
    type Output = T;

    fn index(&self, key: Key) -> &T {
        let (serial, value) = &self.entries[key.place];
        debug_assert_eq!(*serial, key.serial, "the entry was removed");
        value
    }
}

impl<T> IndexMut<Key> for Table<T> {
    fn index_mut(&mut self, key: Key) -> &mut T {
        let (serial, value) = &mut self.entries[key.place];
        debug_assert_eq!(*serial, key.serial, "the entry was removed");
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_finds_nothing_once_its_entry_is_gone() {
        let mut table = Table::default();
        let first = table.insert(1, "first");
        assert_eq!(table.remove(first), Some("first"));
        let second = table.insert(2, "second");
        assert_eq!(first.place, second.place);
        assert_eq!((table.get(first), table.get(second)), (None, Some(&"second")));
        assert_eq!((table.remove(first), table.len()), (None, 1));
        assert!(first < second);
    }
}
