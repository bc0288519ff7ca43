//! Power cuts, and a disk that says that it failed.

use super::{
    super::{
        Chance, figure,
        judge::Verdict,
        kill::{flags, round},
        seed,
    },
    disk::{Disk, Lost},
    shim::{Field, Shim},
};
use crate::harness::{Daemon, Place};

/// A sync takes up to this long, so that there are writes that it has not covered yet.
const SYNC_MICROS: i64 = 3_000;
/// After so many cuts, from an empty store anew.
const CUTS_OF_A_STORE: usize = 8;

/// A daemon on such a disk.
pub(super) fn start(shim: &Shim, place: &Place) -> Daemon {
    let mut command = shim.command(place, &flags());
    command.env("SICK_STORE", &shim.store).env("SICK_LOG", &shim.log);
    Daemon::spawn(command)
}

#[test]
fn after_a_power_cut_everything_acknowledged_is_there() {
    let (cuts, jobs) = (figure("SENDOFF_CUTS", 6), figure("SENDOFF_JOBS", 300));
    let seed = seed();
    let (mut total, mut lost) = (Verdict::default(), Lost::default());
    for first in (0..cuts).step_by(CUTS_OF_A_STORE) {
        let place = Place::new();
        let shim = Shim::new(&place);
        shim.set(Field::SyncMicros, SYNC_MICROS);
        std::fs::create_dir_all(shim.store.parent().unwrap()).unwrap();
        let mut disk = Disk::new(&shim);
        let mut daemon = start(&shim, &place);
        for number in first..cuts.min(first + CUTS_OF_A_STORE) {
            let (again, verdict) = round(&place, daemon, seed.wrapping_add(number as u64), jobs, |daemon| {
                daemon.kill();
                lost.add(disk.cut(&mut Chance::nth(seed, number)));
                start(&shim, &place)
            });
            daemon = again;
            total.add(verdict);
        }
        assert_eq!(daemon.stop().0, Some(0));
        let store = rusqlite::Connection::open(&shim.store).unwrap();
        let sound: String = store.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(sound, "ok");
    }
    println!("{cuts} power cuts, {lost}: {total}");
    assert!(lost.dropped > 0 && lost.torn > 0, "no cut lost anything: {lost}");
}
