//! The nodes of a fleet, each in a place of its own: killed, stopped and started again at will.

use std::{
    fs,
    path::PathBuf,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use rustix::process::Signal;

use super::{caller::Caller, jobs};
use crate::harness::{Daemon, Place};

/// Starts under way at once on one node, so the most that one kill leaves in doubt.
pub(super) const MAX_IN_FLIGHT: usize = 64;
/// More descriptors than this were not given back: connections of jobs, callers and the database,
/// and some thirty files and pipes.
const DESCRIPTORS: usize = MAX_IN_FLIGHT * 2 + 60;
/// The exit code of a node that does not reach its database.
const UNREACHABLE: Option<i32> = Some(4);

pub(super) struct Node {
    place: Place,
    flags: Vec<String>,
    pub(super) socket: PathBuf,
    daemon: Mutex<Option<Daemon>>,
    /// Of processes that have ended.
    log: Mutex<String>,
}

impl Node {
    /// A node with this store and these further flags that serves.
    pub(super) fn start(store: &str, more: &[&str]) -> Self {
        let most = MAX_IN_FLIGHT.to_string();
        let flags = ["--store", store, "--max-in-flight", &most, "--log", "warn"];
        let flags = flags.iter().chain(more).map(|&flag| flag.to_owned()).collect();
        let place = Place::new();
        let socket = PathBuf::new();
        let mut node = Self { place, flags, socket, daemon: Mutex::default(), log: Mutex::default() };
        node.again();
        node.socket = node
            .place
            .path(node.running(|daemon| daemon.ready["socket"].as_str().unwrap().to_owned()).as_str());
        node
    }

    /// Starts it anew, again and again while it does not reach its database, as a supervisor would.
    pub(super) fn again(&self) {
        let flags: Vec<_> = self.flags.iter().map(String::as_str).collect();
        for _ in 0..600 {
            match Daemon::try_spawn(Daemon::command(&self.place, &flags)) {
                Ok(daemon) => return *self.held() = Some(daemon),
                Err((UNREACHABLE, said)) => self.log.lock().unwrap().push_str(&said),
                Err((code, said)) => panic!("a node ended with {code:?}: {said}"),
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("a node does not start: {}", self.log.lock().unwrap());
    }

    /// Ends it by SIGKILL.
    pub(super) fn kill(&self) {
        let log = self.take().kill();
        self.log.lock().unwrap().push_str(&log);
    }

    /// Ends it by SIGTERM; its exit code.
    pub(super) fn end(&self) -> Option<i32> {
        let (code, log) = self.take().stop();
        self.log.lock().unwrap().push_str(&log);
        code
    }

    pub(super) fn signal(&self, signal: Signal) {
        self.running(|daemon| daemon.signal(signal));
    }

    pub(super) fn caller(&self) -> Caller {
        Caller::new(self.socket.clone())
    }

    /// The memory that it holds, in KiB.
    pub(super) fn memory(&self) -> usize {
        memory_of(self.running(Daemon::id)).unwrap()
    }

    /// The name under which it is registered.
    pub(super) fn name(&self) -> String {
        let (status, answer) = self.caller().ask("GET", "/v1/nodes", "").unwrap();
        let this = answer["nodes"].as_array().into_iter().flatten().find(|node| node["this"] == true);
        let this = this.unwrap_or_else(|| panic!("{status}: {answer}"));
        this["node"].as_str().unwrap().to_owned()
    }

    /// Ends it in order, once it was found to hold no more than it needs and to have left nothing
    /// unwaited for.
    pub(super) fn check(&self) {
        let id = self.running(Daemon::id);
        let open = fs::read_dir(format!("/proc/{id}/fd")).unwrap().count();
        assert!(open <= DESCRIPTORS, "{open} descriptors");
        let zombies = zombies_of(id);
        assert_eq!(zombies, 0, "children that were not waited for");
        assert_eq!(self.end(), Some(0));
        let log = self.log.lock().unwrap();
        assert!(!log.contains("panicked"), "{log}");
    }

    fn held(&self) -> MutexGuard<'_, Option<Daemon>> {
        self.daemon.lock().unwrap()
    }

    fn take(&self) -> Daemon {
        self.held().take().unwrap()
    }

    fn running<T>(&self, with: impl FnOnce(&Daemon) -> T) -> T {
        with(self.held().as_ref().unwrap())
    }
}

/// The memory of a process in KiB, as long as there is one.
pub(super) fn memory_of(id: u32) -> Option<usize> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    memory.trim().trim_end_matches(" kB").parse().ok()
}

/// Children of this process that have ended and were not waited for.
pub(super) fn zombies_of(parent: u32) -> usize {
    let parent = parent.to_string();
    let is_zombie = |stat: &str| {
        // The second field is the name in brackets, which may hold blanks and brackets itself.
        let mut fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
        fields.next() == Some("Z") && fields.next() == Some(parent.as_str())
    };
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|process| fs::read_to_string(process.path().join("stat")).ok())
        .filter(|stat| is_zombie(stat))
        .count()
}

/// Three nodes, each with the store of its place in the list. Limits of queues are set before there is
/// a second node, which would hear of them a moment later.
pub(super) fn three([first, second, third]: [&str; 3]) -> [Node; 3] {
    let first = Node::start(first, &[]);
    jobs::limit(&mut first.caller());
    [first, Node::start(second, &[]), Node::start(third, &[])]
}

pub(super) fn sockets(nodes: &[Node]) -> Vec<PathBuf> {
    nodes.iter().map(|node| node.socket.clone()).collect()
}
