//! One run of one side, in a process of its own: no run dirties the memory, the threads or the CPU
//! time of another one.

use std::{
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
};

use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use super::{
    responder,
    sample::Sample,
    workload::{http, lateness, lifecycle, pending, postgres, process, scale, simulated, submit},
};
use crate::{
    failure::{Exit, Failure},
    out,
};

/// What the process is to do, as it is told on its command line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Part {
    Simulated(simulated::Part),
    Pending(pending::Part),
    Process(process::Part),
    Http(http::Part),
    Submit(submit::Part),
    Lifecycle(lifecycle::Part),
    Lateness(lateness::Part),
    Postgres(postgres::Part),
    Scale(scale::Part),
    Respond(responder::Part),
}

macro_rules! part_of {
    ($($variant:ident $module:ident),*) => {
        $(impl From<$module::Part> for Part {
            fn from(part: $module::Part) -> Self {
                Self::$variant(part)
            }
        })*
    };
}
part_of!(Simulated simulated, Pending pending, Process process, Http http, Submit submit, Lifecycle lifecycle,
    Lateness lateness, Postgres postgres, Scale scale);

/// A part, and the empty folder that it may use.
#[derive(Serialize, Deserialize)]
struct Order {
    dir: PathBuf,
    part: Part,
}

/// Where processes that measure work.
pub(super) struct Place {
    /// For their folders.
    pub(super) dir: PathBuf,
    /// The URL of a database.
    pub(super) store: Option<String>,
}

impl Place {
    /// A folder of its own for somebody.
    pub(super) fn folder(&self) -> Result<TempDir, Failure> {
        let dir = &self.dir;
        tempfile::tempdir_in(dir).map_err(|err| {
            Failure::usage(format!("--dir: no folder can be made in {}: {err}", dir.display()))
        })
    }

    /// Runs `part` in a process of its own; killed when this is dropped.
    pub(super) async fn measure(&self, part: &Part, folder: &Path) -> Result<Sample, Failure> {
        let child = spawn(part, folder, self.store.as_deref())?;
        let output = child.wait_with_output().await.map_err(|err| lost(&err.to_string()))?;
        if !output.status.success() {
            return Err(lost(&output.status.to_string()));
        }
        serde_json::from_slice(&output.stdout).map_err(|err| lost(&err.to_string()))
    }
}

/// A part that serves others until its child handle is dropped.
pub(super) struct Server {
    _child: Child,
    /// Where it listens.
    pub(super) address: String,
}

impl Server {
    pub(super) async fn start(part: responder::Part) -> Result<Self, Failure> {
        let mut child = spawn(&Part::Respond(part), Path::new("/"), None)?;
        let stdout = child.stdout.take().ok_or_else(|| lost("no output"))?;
        let line = BufReader::new(stdout).lines().next_line().await.map_err(|err| lost(&err.to_string()))?;
        let address = line.ok_or_else(|| lost("it did not say where it listens"))?;
        Ok(Self { _child: child, address })
    }
}

fn spawn(part: &Part, dir: &Path, store: Option<&str>) -> Result<Child, Failure> {
    let order = Order { dir: dir.to_owned(), part: part.clone() };
    let order = serde_json::to_string(&order).expect("an order has a JSON form");
    let program = std::env::current_exe().map_err(|err| lost(&err.to_string()))?;
    let mut command = Command::new(program);
    if let Some(store) = store {
        command.env(postgres::URL, store);
    }
    command
        .args(["bench", "--part", &order])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|err| lost(&err.to_string()))
}

fn lost(why: &str) -> Failure {
    Failure::not_all(format!("a process that measures ended without a result: {why}"))
}

/// The process itself: does what it was told and prints its sample.
pub(crate) fn run(order: &str) -> Result<ExitCode, Failure> {
    // However the command ends that started this.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let Order { dir, part } = serde_json::from_str(order)
        .map_err(|err| Failure::usage(format!("--part: is for this command's own use: {err}")))?;
    let sample = match part {
        Part::Simulated(part) => part.run(),
        Part::Pending(part) => part.run(),
        Part::Process(part) => part.run(&dir),
        Part::Http(part) => part.run(&dir),
        Part::Submit(part) => part.run(&dir),
        Part::Lifecycle(part) => part.run(&dir),
        Part::Lateness(part) => part.run(&dir),
        Part::Postgres(part) => part.run(&dir),
        Part::Scale(part) => part.run(&dir),
        Part::Respond(part) => return part.run(),
    }?;
    out::json(&sample)?;
    Ok(Exit::Ok.into())
}
