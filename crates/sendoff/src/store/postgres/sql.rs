//! The statements, by name. Each transition is one guarded update that repeats
//! [`Life::apply`](crate::state::Life::apply): where its guard does not hold, no row changes. Every
//! write appends to the tally what it changed.

use std::borrow::Cow;

macro_rules! statements {
    ($($name:ident: $text:expr;)*) => {
        /// A statement's name.
        #[derive(Debug, Clone, Copy)]
        pub(super) enum Sql { $($name),* }

        const TEXTS: &[(&str, &str)] = &[$((stringify!($name), $text)),*];
    };
}

statements! {
    // Writes.

    // Nodes.

    // Reads.
    Bookmark: "SELECT value FROM sendoff.bookmark WHERE name = $1";

    // Texts that rows share.
}

/// The texts in use: those above, but for planted faults.
pub(super) struct Texts(Vec<Cow<'static, str>>);

impl Texts {
    pub(super) fn new() -> Self {
        Self(TEXTS.iter().map(|(_, text)| Cow::Borrowed(*text)).collect())
    }

    pub(super) fn text(&self, name: Sql) -> &str {
        &self.0[name as usize]
    }
}
