//! What a job may reach when it starts.

use std::{path::PathBuf, sync::Arc};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Who submits a job, and what its start may reach.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// What records name as `submitted_by`.
    pub name: Option<Arc<str>>,
    /// What the caller's jobs may reach; `None` leaves that to the starters' policy alone.
    pub grant: Option<Arc<Grant>>,
}

/// What a job was granted when it was submitted. It is stored with the job and held, at each
/// attempt, against the policy in force then: both must allow what the start needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Grant {
    /// Submitted by a program of this machine and user: at the start the half of the policy counts
    /// that is made for those.
    pub local: bool,
    /// What it may reach.
    #[serde(flatten)]
    pub reach: Reach,
}

/// Things that a start reaches only if it is allowed to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reach {
    /// Networks that are not public (loopback, private, link-local and so on) and that HTTP starts
    /// may connect to all the same; `0.0.0.0/0` and `::/0` allow all. An IPv4 network counts also
    /// where its addresses are written as IPv6, and an IPv6 network does not open IPv4 addresses
    /// hidden in its own. Which addresses an operator's own translator (NAT64 with a prefix of its
    /// own) leads to cannot be told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<IpNet>,
    /// Programs that process starts may execute: absolute paths of files, or of directories with all
    /// below them. A path that is a symbolic link allows what it leads to. A program that starts
    /// others (a shell, `env`) allows those too, one with setuid runs as its owner, and whoever may
    /// write to an allowed directory decides what runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub programs: Vec<PathBuf>,
    /// Directories, absolute, in and below which processes may work and write their output. Without
    /// any a job can name neither, and its process works in sendoff's own directory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub directories: Vec<PathBuf>,
    /// Environment variables that a job may set for its process: `NAME`, `PREFIX*`, or `*` for all,
    /// which includes `LD_PRELOAD` and so whatever its value leads to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Secrets that headers may refer to: `env:NAME`, `env:PREFIX*`, `env:*`, `file:PATH`, or
    /// `file:DIRECTORY/` for all below it; `file:/` for all files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
}
