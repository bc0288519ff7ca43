//! What an acknowledgement of this database is worth, by its settings.

use tokio_postgres::Row;

use crate::{
    error::{Error, ErrorKind, Result},
    ports::Durability,
};

/// Those settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    standby_names: String,
    synchronous_commit: String,
    fsync: bool,
    in_recovery: bool,
}

impl Settings {
    pub(super) fn of(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            standby_names: row.try_get(0)?,
            synchronous_commit: row.try_get(1)?,
            fsync: row.try_get::<_, &str>(2)? == "on",
            in_recovery: row.try_get(3)?,
        })
    }

    pub(super) const fn fsync(&self) -> bool {
        self.fsync
    }

    /// # Errors
    /// Names the setting because of which nothing that is acknowledged could be promised.
    pub(super) fn durability(&self) -> Result<Durability> {
        if self.in_recovery {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "the database is a standby and takes no writes; name its primary in the URL, or all servers",
            ));
        }
        if self.synchronous_commit == "off" {
            return Err(Error::new(
                ErrorKind::Unusable,
                "the database has synchronous_commit=off: it would forget what it acknowledged in a crash; \
                 set it to on, for this database or for sendoff's user",
            ));
        }
        // Tests go without: what they ask does not depend on the disk.
        if !self.fsync && !cfg!(feature = "testing") {
            return Err(Error::new(
                ErrorKind::Unusable,
                "the database has fsync=off: a power cut would destroy it; set it to on",
            ));
        }
        let waits = ["on", "remote_apply"].contains(&self.synchronous_commit.as_str());
        match waits && !self.standby_names.trim().is_empty() {
            true => Ok(Durability::Replicated),
            false => Ok(Durability::Disk),
        }
    }
}

pub(super) const fn code(durability: Durability) -> u8 {
    match durability {
        Durability::Memory => 0,
        Durability::Disk => 1,
        Durability::Replicated => 2,
    }
}

pub(super) const fn of_code(code: u8) -> Durability {
    match code {
        2 => Durability::Replicated,
        1 => Durability::Disk,
        _ => Durability::Memory,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(names: &str, commit: &str) -> Settings {
        Settings {
            standby_names: names.into(),
            synchronous_commit: commit.into(),
            fsync: true,
            in_recovery: false,
        }
    }

    #[test]
    fn replicated_only_if_each_commit_waits_for_a_standby() {
        for (names, commit, durability) in [
            ("", "on", Durability::Disk),
            (" ", "remote_apply", Durability::Disk),
            ("FIRST 1 (a, b)", "on", Durability::Replicated),
            ("*", "remote_apply", Durability::Replicated),
            ("*", "remote_write", Durability::Disk),
            ("*", "local", Durability::Disk),
        ] {
            assert_eq!(settings(names, commit).durability().unwrap(), durability, "{names} {commit}");
            assert_eq!(of_code(code(durability)), durability);
        }
    }

    #[test]
    fn a_database_that_forgets_is_refused_by_the_name_of_its_setting() {
        let off = settings("*", "off").durability().unwrap_err();
        assert!(off.is_unusable() && off.to_string().contains("synchronous_commit"), "{off}");
        let standby = Settings { in_recovery: true, ..settings("", "on") }.durability().unwrap_err();
        assert!(standby.is_unavailable(), "{standby}");
    }
}
