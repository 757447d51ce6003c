//! `everstep data inspect`: what a source holds, from its index and a sample of its images.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::num::NonZeroUsize;

use serde::Serialize;

use crate::data::Source;
use crate::data::decode::{DecodeLimits, decode};
use crate::data::loader::BadSample;
use crate::data::source::Attribute;
use crate::examine::in_order;
use crate::report::tame;

/// Images that are decoded, at most; spread evenly over the source.
pub const LOOKED_AT_MAX: u64 = 2000;
/// Different texts of an attribute that are counted; further ones are counted together.
const VALUES_MAX: usize = 1000;
/// Entries of a list that people are shown.
const SHOWN: usize = 20;

/// What a source holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspection {
    /// The source as it was given.
    pub place: String,
    /// Images.
    pub images: u64,
    /// Tar shards; a folder is one.
    pub shards: usize,
    /// Images without a label.
    pub unlabelled: u64,
    /// Images of each class that has some, in the order of the classes.
    pub classes: Vec<(String, u64)>,
    /// Images that were read and decoded; the rest follows from these.
    pub looked_at: u64,
    /// Their sizes; `None` when none can be decoded.
    pub sizes: Option<Sizes>,
    /// Attributes by name.
    pub attributes: BTreeMap<String, Attributes>,
    /// Those that cannot be read or decoded, or whose attributes cannot be read.
    pub unreadable: Vec<BadSample>,
}

/// Width and height of images, ordered by their number of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Sizes {
    /// The smallest.
    pub smallest: (u32, u32),
    /// The middle one.
    pub median: (u32, u32),
    /// The largest.
    pub largest: (u32, u32),
}

/// The values of one attribute.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Attributes {
    /// Images that have it.
    pub images: u64,
    /// Smallest and largest number, if some are numbers.
    pub range: Option<(f64, f64)>,
    /// Images of each text.
    pub texts: BTreeMap<String, u64>,
    /// Images of texts beyond the first thousand different ones.
    pub other_texts: u64,
}

/// What is found out about one image.
type Look = (Result<(u32, u32), String>, Result<BTreeMap<String, Attribute>, String>);

/// Counts what the index knows and looks at a sample of the images. The result is the same for any number of threads.
pub fn inspect(source: &Source, threads: NonZeroUsize) -> Inspection {
    let looked_at = source.len().min(LOOKED_AT_MAX);
    let samples: Vec<u64> = (0..looked_at).map(|i| (u128::from(i) * u128::from(source.len()) / u128::from(looked_at)) as u64).collect();
    let looks: Result<Vec<Look>, std::convert::Infallible> = in_order(&samples, threads, |sample| Ok(look(source, *sample)));
    let Ok(looks) = looks;
    let (classes, unlabelled) = classes(source);
    let mut inspection = Inspection {
        place: source.place().to_owned(),
        images: source.len(),
        shards: source.shards().len(),
        unlabelled,
        classes,
        looked_at,
        sizes: None,
        attributes: BTreeMap::new(),
        unreadable: Vec::new(),
    };
    let mut sizes = Vec::new();
    for (sample, (size, attributes)) in samples.into_iter().zip(looks) {
        let mut bad = |reason| inspection.unreadable.push(BadSample { sample, name: source.name(sample).to_owned(), reason });
        match size {
            Ok(size) => sizes.push(size),
            Err(reason) => bad(reason),
        }
        match attributes {
            Ok(attributes) => attributes.into_iter().for_each(|(name, value)| inspection.attributes.entry(name).or_default().add(value)),
            Err(reason) => bad(reason),
        }
    }
    sizes.sort_unstable_by_key(|&(width, height)| (u64::from(width) * u64::from(height), width));
    inspection.sizes = (!sizes.is_empty()).then(|| {
        let last = sizes.len() - 1;
        Sizes { smallest: sizes[0], median: sizes[last / 2], largest: sizes[last] }
    });
    inspection
}

fn look(source: &Source, sample: u64) -> Look {
    let bytes = source.bytes(sample).map_err(|error| error.to_string());
    let size = bytes.and_then(|bytes| decode(&bytes, &DecodeLimits::default()).map_err(|error| error.to_string()));
    (size.map(|image| (image.width, image.height)), source.attributes(sample).map_err(|error| error.to_string()))
}

/// Images of each class, and those of none.
fn classes(source: &Source) -> (Vec<(String, u64)>, u64) {
    let mut counts = vec![0; source.classes().len()];
    let mut unlabelled = 0;
    for sample in 0..source.len() {
        match source.label(sample) {
            Some(label) => counts[label as usize] += 1,
            None => unlabelled += 1,
        }
    }
    (source.classes().iter().cloned().zip(counts).filter(|(_, count)| *count > 0).collect(), unlabelled)
}

impl Attributes {
    fn add(&mut self, value: Attribute) {
        self.images += 1;
        match value {
            Attribute::Number(number) => {
                let (low, high) = self.range.unwrap_or((number, number));
                self.range = Some((low.min(number), high.max(number)));
            }
            Attribute::Text(text) if self.texts.len() < VALUES_MAX || self.texts.contains_key(&text) => {
                *self.texts.entry(text).or_default() += 1;
            }
            Attribute::Text(_) => self.other_texts += 1,
        }
    }

    fn text(&self) -> String {
        let mut parts: Vec<String> = self.range.iter().map(|(low, high)| format!("{low} to {high}")).collect();
        if !self.texts.is_empty() {
            parts.push(counted(self.texts.iter().map(|(text, count)| (text.as_str(), *count)), self.texts.len()));
        }
        if self.other_texts > 0 {
            parts.push(format!("other texts {}", self.other_texts));
        }
        parts.join(", ")
    }
}

/// `a 3, b 5 and 7 more` of `len` entries.
fn counted<'a>(entries: impl Iterator<Item = (&'a str, u64)>, len: usize) -> String {
    let shown: Vec<String> = entries.take(SHOWN).map(|(name, count)| format!("{} {count}", tame(name))).collect();
    let more = if len > SHOWN { format!(" and {} more", len - SHOWN) } else { String::new() };
    shown.join(", ") + &more
}

impl Inspection {
    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let shards = if self.shards > 1 { format!(" in {} shards", self.shards) } else { String::new() };
        let _ = writeln!(text, "{}: {} images{shards}", self.place, self.images);
        if self.classes.is_empty() {
            let _ = writeln!(text, "labels: none");
        } else {
            let classes = counted(self.classes.iter().map(|(name, count)| (name.as_str(), *count)), self.classes.len());
            let _ = writeln!(text, "labels: {} classes ({classes}), {} images without a label", self.classes.len(), self.unlabelled);
        }
        let _ = writeln!(text, "looked at {} images:", self.looked_at);
        if let Some(Sizes { smallest, median, largest }) = self.sizes {
            let size = |(width, height): (u32, u32)| format!("{width}×{height}");
            let _ = writeln!(text, "  sizes: {} to {}, the middle one {}", size(smallest), size(largest), size(median));
        }
        for (name, attribute) in &self.attributes {
            let _ = writeln!(text, "  attribute {} of {} images: {}", tame(name), attribute.images, attribute.text());
        }
        let _ = writeln!(text, "  unreadable: {}", self.unreadable.len());
        for bad in self.unreadable.iter().take(SHOWN) {
            let _ = writeln!(text, "    {}: {}", tame(&bad.name), tame(&bad.reason));
        }
        if self.unreadable.len() > SHOWN {
            let _ = writeln!(text, "    and {} more", self.unreadable.len() - SHOWN);
        }
        text
    }
}
