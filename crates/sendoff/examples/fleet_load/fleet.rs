//! The nodes, as the process that measures sees them. They end when this is dropped.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdout, Command, Stdio},
};

#[derive(Clone, Copy)]
pub(crate) enum Serves {
    All,
    /// It only takes submits.
    Nothing,
}

pub(crate) struct Fleet {
    nodes: Vec<Node>,
}

struct Node {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Fleet {
    /// Nodes that are connected first, then all start.
    pub(crate) fn start(url: &str, nodes: usize, serves: Serves) -> Self {
        let queues = match serves {
            Serves::All => "all",
            Serves::Nothing => "nothing",
        };
        let spawn = |_| {
            let mut child = Command::new(std::env::current_exe().expect("this program"))
                .args(["node", url, queues])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("this program starts");
            let answers = BufReader::new(child.stdout.take().expect("it is piped"));
            Node { child, answers }
        };
        let mut fleet = Self { nodes: (0..nodes).map(spawn).collect() };
        fleet.finish();
        fleet.tell("start");
        fleet.finish();
        fleet
    }

    /// Submits so many jobs, the same number through each node, and waits until all are stored; how
    /// many a second.
    pub(crate) fn submit(&mut self, way: &str, jobs: usize, due: u64, callers: usize, delay: u64) -> f64 {
        let jobs = self.begin_submit(way, jobs, due, callers, delay);
        let micros: Vec<f64> = self.finish().iter().map(|text| text.parse().expect("a number")).collect();
        jobs as f64 * 1e6 / micros.into_iter().fold(0.0, f64::max)
    }

    /// How many that are in all.
    pub(crate) fn begin_submit(
        &mut self,
        way: &str,
        jobs: usize,
        due: u64,
        callers: usize,
        delay: u64,
    ) -> usize {
        let each = jobs / self.nodes.len();
        self.tell(&format!("{way} {each} {due} {callers} {delay}"));
        each * self.nodes.len()
    }

    /// Submits so many jobs a second through all nodes together; in microseconds, how long each
    /// waited, and when its submitter was told that it had started.
    pub(crate) fn pace(&mut self, rate: usize, seconds: usize) -> (Vec<i64>, Vec<i64>) {
        let each = rate / self.nodes.len();
        self.tell(&format!("pace {each} {} 1 0", each * seconds));
        let answers = self.finish();
        let numbers = |text: &str| text.split(' ').map(|text| text.parse().expect("a number")).collect();
        let of = |answer: &String| {
            let (wait, told) = answer.split_once(';').expect("two lists");
            (numbers(wait), numbers(told))
        };
        let (wait, told): (Vec<Vec<i64>>, Vec<Vec<i64>>) = answers.iter().map(of).unzip();
        (wait.concat(), told.concat())
    }

    /// The most memory that any of them has had, in MiB.
    pub(crate) fn memory(&self) -> f64 {
        let peak = |node: &Node| {
            let status = std::fs::read_to_string(format!("/proc/{}/status", node.child.id()));
            let status = status.expect("it runs");
            let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("Linux");
            line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0.0)
        };
        self.nodes.iter().map(peak).fold(0.0, f64::max) / 1024.0
    }

    fn tell(&mut self, line: &str) {
        for node in &mut self.nodes {
            writeln!(node.child.stdin.as_mut().expect("it is piped"), "{line}").expect("a node listens");
        }
    }

    /// The answer of each.
    pub(crate) fn finish(&mut self) -> Vec<String> {
        let answer = |node: &mut Node| {
            let mut line = String::new();
            let read = node.answers.read_line(&mut line).expect("a node answers");
            assert!(read > 0, "a node ended early");
            line.trim_end().to_owned()
        };
        self.nodes.iter_mut().map(answer).collect()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            // The end of its input ends it.
            drop(node.child.stdin.take());
        }
        for node in &mut self.nodes {
            let _ = node.child.wait();
        }
    }
}
