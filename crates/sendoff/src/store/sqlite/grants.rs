//! What jobs may reach: distinct texts, kept once and named by a number.

use std::{collections::HashMap, sync::Arc};

use rusqlite::{Connection, OptionalExtension, Statement};

use super::{
    lanes::CACHED,
    sql::{Sql, Texts},
};
use crate::{
    error::{Error, Result},
    job::Grant,
};

/// The stored text of a grant.
///
/// # Errors
/// Invalid if a path in it is not UTF-8.
fn written(grant: &Grant) -> Result<String> {
    serde_json::to_string(grant)
        .map_err(|err| Error::invalid("a caller's grant cannot be stored").with_source(err))
}

/// The grant with this stored text; none if that says anything that this version does not know: what
/// is passed over might have been a restriction.
pub(super) fn read(text: &str) -> Option<Grant> {
    let grant = serde_json::from_str(text).ok()?;
    (written(&grant).ok()? == text).then_some(grant)
}

/// One connection's view of the grants. They are never changed nor deleted.
pub(super) struct Grants<'c> {
    find: Statement<'c>,
    read: Statement<'c>,
    add: Statement<'c>,
    known: HashMap<i64, Arc<Grant>>,
    ids: HashMap<Arc<Grant>, i64>,
}

impl<'c> Grants<'c> {
    pub(super) fn new(conn: &'c Connection, texts: &Texts) -> rusqlite::Result<Self> {
        let prepare = |name| texts.prepare(conn, name);
        Ok(Self {
            find: prepare(Sql::GrantId)?,
            read: prepare(Sql::GrantText)?,
            add: prepare(Sql::NewGrant)?,
            known: HashMap::new(),
            ids: HashMap::new(),
        })
    }

    /// The grant of this number; none if there is no such or it cannot be decoded.
    pub(super) fn get(&mut self, id: i64) -> rusqlite::Result<Option<Arc<Grant>>> {
        if let Some(grant) = self.known.get(&id) {
            return Ok(Some(grant.clone()));
        }
        let grant = self.read.query_row([id], |row| Ok(row.get_ref(0)?.as_str().ok().and_then(read)));
        let Some(grant) = grant.optional()?.flatten().map(Arc::new) else { return Ok(None) };
        self.remember(id, &grant);
        Ok(Some(grant))
    }

    /// The number of this grant, a new one if need be; `Err` within `Ok` if it cannot be stored.
    /// For the writer.
    pub(super) fn id(&mut self, grant: &Arc<Grant>) -> rusqlite::Result<Result<i64>> {
        if let Some(id) = self.ids.get(grant) {
            return Ok(Ok(*id));
        }
        let text = match written(grant) {
            Ok(text) => text,
            Err(err) => return Ok(Err(err)),
        };
        let id = match self.find.query_row([&text], |row| row.get(0)).optional()? {
            Some(id) => id,
            None => self.add.insert([&text])?,
        };
        self.remember(id, grant);
        Ok(Ok(id))
    }

    /// Forgets what may no longer be so: the transaction was undone.
    pub(super) fn forget(&mut self) {
        self.known.clear();
        self.ids.clear();
    }

    fn remember(&mut self, id: i64, grant: &Arc<Grant>) {
        if self.known.len() >= CACHED {
            self.forget();
        }
        self.ids.insert(grant.clone(), id);
        self.known.insert(id, grant.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Reach;

    fn some() -> Grant {
        let reach = Reach {
            networks: vec!["10.0.0.1/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
            programs: vec!["/usr/bin/true".into()],
            directories: vec!["/srv/it's \"here\"".into()],
            env: vec!["APP_*".to_owned()],
            secrets: vec!["file:/run/secrets/".to_owned()],
        };
        Grant { local: true, reach }
    }

    #[test]
    fn a_grant_is_read_as_it_was_written() {
        for grant in [some(), Grant::default(), Grant { local: false, ..some() }] {
            assert_eq!(read(&written(&grant).unwrap()), Some(grant));
        }
    }

    #[test]
    fn what_this_version_does_not_know_is_not_passed_over() {
        let text = written(&some()).unwrap();
        for damaged in [
            text.replacen('{', r#"{"only_on":"sunday","#, 1),
            text.replace("programs", "program"),
            text.replace("10.0.0.1/8", "10.0.0.1/64"),
            text.replace("true,", "1,"),
            text[..text.len() - 1].to_owned(),
            String::new(),
            "null".to_owned(),
            "{}".to_owned(),
        ] {
            assert_eq!(read(&damaged), None, "{damaged}");
        }
    }

    #[test]
    fn a_grant_that_has_no_text_is_refused() {
        use std::os::unix::ffi::OsStringExt;
        let path = std::ffi::OsString::from_vec(vec![0xff]).into();
        let grant = Grant { reach: Reach { programs: vec![path], ..Reach::default() }, ..some() };
        assert!(written(&grant).unwrap_err().is_invalid());
    }
}
