//! What sendoff reads from outside, as functions of bytes that judge themselves: each may be given
//! anything, and panics if what comes out is wrong. `cargo test` replays the committed inputs
//! (`fuzz/corpus`) and varies them; `tools/fuzz` lets libFuzzer look for more.
//!
//! An input of several parts has the byte 255 between them, which no text holds.

mod jobs;
#[cfg(feature = "sqlite")]
mod store_file;
mod times;
mod trial;

pub use trial::{Trial, trials};

/// One of these functions.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of its directory of inputs.
    pub name: &'static str,
    /// Reads an input.
    ///
    /// # Panics
    /// If what sendoff makes of it is wrong.
    pub run: fn(&[u8]),
    /// How many times as long as others it takes, about.
    pub cost: u32,
}

impl Target {
    /// One that takes some microseconds.
    pub const fn new(name: &'static str, run: fn(&[u8])) -> Self {
        Self { name, run, cost: 1 }
    }
}

/// All of the library's.
pub const TARGETS: &[Target] = &[
    Target::new("instant", times::instant),
    Target::new("span", times::span),
    Target::new("job", jobs::job),
    #[cfg(feature = "http")]
    Target::new("address", crate::starter::http_fuzz::addresses::address),
    #[cfg(feature = "http")]
    Target::new("answer", crate::starter::http_fuzz::answer),
    #[cfg(feature = "http")]
    Target::new("request", crate::starter::http_fuzz::request),
    #[cfg(feature = "http")]
    Target::new("url", crate::starter::http_fuzz::url),
    #[cfg(feature = "http")]
    Target::new("retry_after", crate::starter::http_fuzz::retry_after),
    #[cfg(feature = "sqlite")]
    Target::new("row", crate::store::sqlite::fuzz::row),
    #[cfg(feature = "sqlite")]
    Target { cost: 50, ..Target::new("store_file", store_file::store_file) },
    #[cfg(feature = "postgres")]
    Target::new("database_url", crate::store::postgres::fuzz::database_url),
];

/// The parts of an input, as many as are asked for: those that are not there are empty, and all the
/// rest is in the last.
pub fn parts<const N: usize>(data: &[u8]) -> [&[u8]; N] {
    let mut parts = data.splitn(N, |&byte| byte == 255);
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

/// The same as texts; `None` if one of them is none.
pub fn texts<const N: usize>(data: &[u8]) -> Option<[&str; N]> {
    let mut texts = [""; N];
    for (text, part) in texts.iter_mut().zip(parts::<N>(data)) {
        *text = std::str::from_utf8(part).ok()?;
    }
    Some(texts)
}

/// Pieces of `whole` whose lengths are these, in turn: as it may come over a network.
pub fn pieces<'a>(whole: &'a [u8], lengths: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut lengths = lengths.iter().cycle();
    let mut rest = whole;
    std::iter::from_fn(move || {
        let length = lengths.next().map_or(rest.len(), |&length| usize::from(length) + 1);
        let (piece, behind) = rest.split_at(length.min(rest.len()));
        rest = behind;
        (!piece.is_empty()).then_some(piece)
    })
}
