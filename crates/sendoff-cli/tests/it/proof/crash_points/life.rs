//! The daemon of one cell: it dies at its point, and is there again.

use std::{
    path::{Path, PathBuf},
    process::{ChildStdout, Command},
};

use rustix::process::Signal;
use sendoff::crash::Point;

use super::{
    super::Chance,
    cells::{Cell, Manner, Plan, Store},
};
use crate::harness::{Daemon, Place};

/// Starts under way at once, so the most that one crash leaves in doubt.
pub(super) const MAX_IN_FLIGHT: usize = 8;

pub(super) struct Life {
    pub(super) place: Place,
    pub(super) socket: PathBuf,
    flags: Vec<String>,
    /// The node that lives on, in a place of its own.
    second: Option<(Place, PathBuf)>,
    database: Option<Database>,
}

/// A database that goes with the cell: a thousand of them would fill a disk.
struct Database {
    name: String,
}

impl Drop for Database {
    fn drop(&mut self) {
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        if let Err(error) = testpg::shared().sql(&drop) {
            println!("{} stays: {error}", self.name);
        }
    }
}

/// Where and when a process is to die.
pub(super) struct Arming {
    pub(super) point: Point,
    /// At the first, second, … time that it comes by.
    pub(super) time: u64,
    pub(super) manner: Manner,
}

impl Life {
    pub(super) fn new(cell: &Cell) -> Self {
        let place = Place::new();
        let socket = place.path("socket");
        let most = MAX_IN_FLIGHT.to_string();
        let mut flags = vec!["--max-in-flight", &most, "--log", "warn"];
        let url = match cell.store {
            Store::Sqlite => None,
            Store::Postgres | Store::Fleet => Some(testpg::shared().new_database().unwrap()),
        };
        if let Some(url) = &url {
            flags.extend(["--store", url]);
        }
        let flags = flags.into_iter().map(str::to_owned).collect();
        let name = url.as_ref().map(|url| url.rsplit_once('/').unwrap().1.to_owned());
        let second = (cell.store == Store::Fleet).then(|| {
            let place = Place::new();
            let socket = place.path("socket");
            (place, socket)
        });
        Self { place, socket, flags, second, database: name.map(|name| Database { name }) }
    }

    fn command(&self, place: &Place, socket: &Path, more: &[&str]) -> Command {
        let mut flags: Vec<&str> =
            self.flags.iter().map(String::as_str).chain(more.iter().copied()).collect();
        flags.extend(["--socket", socket.to_str().unwrap()]);
        Daemon::command(place, &flags)
    }

    /// A daemon that will not die by itself and serves.
    pub(super) fn start(&self) -> Daemon {
        Daemon::spawn(self.command(&self.place, &self.socket, &[]))
    }

    /// The second node, if there is one.
    pub(super) fn start_second(&self) -> Option<Daemon> {
        self.second.as_ref().map(|(place, socket)| Daemon::spawn(self.command(place, socket, &[])))
    }

    /// Where callers may ask, those that live on last.
    pub(super) fn sockets(&self) -> Vec<PathBuf> {
        let second = self.second.iter().map(|(_, socket)| socket.clone());
        std::iter::once(self.socket.clone()).chain(second).collect()
    }

    /// One that will die, before it serves or later.
    pub(super) fn start_armed(&self, arming: Arming, more: &[&str]) -> Armed {
        let mut command = self.command(&self.place, &self.socket, more);
        let manner = match arming.manner {
            Manner::Abort => "abort",
            Manner::Kill => "wait",
        };
        command.env("SENDOFF_CRASH_AT", format!("{}:{}:{manner}", arming.point.name(), arming.time));
        // Whether it gets as far as to serve is not waited for.
        let (daemon, stdout) = Daemon::launch(command);
        Armed { arming, daemon, _stdout: stdout }
    }

    /// Fails unless the store is in order and holds so many jobs. Nobody else has it open.
    pub(super) fn check_store(&self, jobs: usize) {
        let held = match &self.database {
            None => {
                let store = rusqlite::Connection::open(self.place.path("state/sendoff/sendoff.db")).unwrap();
                let check: String = store.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
                assert_eq!(check, "ok");
                store.query_row("SELECT count(*) FROM job", [], |row| row.get::<_, i64>(0)).unwrap()
            }
            Some(Database { name }) => {
                let rows = testpg::shared().sql_in(name, "SELECT count(*) FROM sendoff.job").unwrap();
                rows[0][0].as_ref().unwrap().parse().unwrap()
            }
        };
        assert_eq!(held, jobs as i64, "jobs in the store");
    }
}

impl Arming {
    pub(super) fn of(cell: &Cell, chance: &mut Chance) -> Self {
        let time = 1 + chance.below(Plan::of(cell.point).times);
        Self { point: cell.point, time, manner: cell.manner }
    }
}

/// A process that is to die.
pub(super) struct Armed {
    arming: Arming,
    daemon: Daemon,
    /// Open, so that it can say that it serves.
    _stdout: ChildStdout,
}

impl Armed {
    pub(super) fn terminate(&self) {
        self.daemon.signal(Signal::TERM);
    }

    /// Waits until it has come to its point and sees it dead; fails if it died otherwise.
    pub(super) fn see_dead(self) {
        self.daemon.until_log(&format!("at crash point {}\n", self.arming.point.name()));
        let wanted = match self.arming.manner {
            Manner::Abort => Signal::ABORT,
            Manner::Kill => {
                self.daemon.signal(Signal::KILL);
                Signal::KILL
            }
        };
        assert_eq!(self.daemon.dead(), Some(wanted.as_raw()));
    }
}
