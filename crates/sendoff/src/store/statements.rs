//! The texts of a store's statements, and mistakes to plant in them.

use std::borrow::Cow;

/// Texts by the place of their names, as written but for planted faults.
pub(super) struct Texts {
    #[cfg(feature = "testing")]
    names: &'static [(&'static str, &'static str)],
    texts: Vec<Cow<'static, str>>,
}

impl Texts {
    /// Of these statements, each a name and a text.
    pub(super) fn of(statements: &'static [(&'static str, &'static str)]) -> Self {
        Self {
            #[cfg(feature = "testing")]
            names: statements,
            texts: statements.iter().map(|(_, text)| Cow::Borrowed(*text)).collect(),
        }
    }

    /// # Panics
    /// If the fault names no statement, or its text is not found there.
    #[cfg(feature = "testing")]
    pub(super) fn plant(&mut self, fault: &Fault) {
        let place = self.names.iter().position(|(name, _)| *name == fault.statement);
        let text = &mut self.texts[place.unwrap_or_else(|| panic!("no statement {:?}", fault.statement))];
        assert!(text.contains(fault.from), "{:?} is not in {text:?}", fault.from);
        *text = Cow::Owned(text.replacen(fault.from, fault.to, 1));
    }

    pub(super) fn at(&self, place: usize) -> &str {
        &self.texts[place]
    }
}

/// A deliberate mistake: in the statement of this name, the first `from` becomes `to`.
#[cfg(feature = "testing")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// What goes wrong.
    pub name: &'static str,
    /// The statement's name.
    pub statement: &'static str,
    /// Part of its text.
    pub from: &'static str,
    /// What stands there instead.
    pub to: &'static str,
}

/// A store's `FAULTS`.
#[cfg(feature = "testing")]
macro_rules! faults {
    ($($name:literal: $statement:ident $from:literal => $to:literal;)*) => {
        /// Each of these must make the conformance suite fail.
        pub const FAULTS: &[Fault] = &[$(
            Fault { name: $name, statement: stringify!($statement), from: $from, to: $to },
        )*];
    };
}
#[cfg(feature = "testing")]
pub(super) use faults;
