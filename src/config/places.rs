//! Where the keys of a TOML text are: byte offsets to keys and back, lines and columns for people.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::de::{DeTable, DeValue, Error};

/// Every key of a file (`section.key`, tables of arrays by index) with its bytes.
#[derive(Debug)]
pub(super) struct Places<'a> {
    file: &'a str,
    text: &'a str,
    keys: BTreeMap<String, (usize, Range<usize>)>,
}

impl<'a> Places<'a> {
    /// Reads the keys of a text.
    pub(super) fn parse(file: &'a str, text: &'a str) -> Result<Self, Error> {
        let mut places = Self { file, text, keys: BTreeMap::new() };
        places.collect("", DeTable::parse(text)?.get_ref());
        Ok(places)
    }

    fn collect(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let key = format!("{prefix}{}", name.get_ref());
            let (start, end) = (name.span().start, value.span().end.max(name.span().end));
            self.keys.insert(key.clone(), (start, start..end));
            match value.get_ref() {
                DeValue::Table(inner) => self.collect(&format!("{key}."), inner),
                DeValue::Array(items) => {
                    for (index, item) in items.iter().enumerate() {
                        if let DeValue::Table(inner) = item.get_ref() {
                            self.keys.insert(format!("{key}.{index}"), (item.span().start, item.span()));
                            self.collect(&format!("{key}.{index}."), inner);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// `file:line:column` of a byte.
    pub(super) fn place(file: &str, text: &str, offset: usize) -> String {
        let before = &text.as_bytes()[..offset.min(text.len())];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
        format!("{file}:{line}:{column}")
    }

    /// The place of a key, or of the nearest table around it that is in the file, or the file.
    pub(super) fn of(&self, key: &str) -> String {
        let mut key = key;
        loop {
            if let Some((start, _)) = self.keys.get(key) {
                return Self::place(self.file, self.text, *start);
            }
            match key.rsplit_once('.') {
                Some((parent, _)) => key = parent,
                None => return self.file.into(),
            }
        }
    }

    /// The innermost key whose text holds this byte.
    pub(super) fn key_at(&self, offset: usize) -> Option<&str> {
        let around = self.keys.iter().filter(|(_, (_, range))| range.contains(&offset));
        around.min_by_key(|(key, (_, range))| (range.len(), usize::MAX - key.len())).map(|(key, _)| key.as_str())
    }
}
