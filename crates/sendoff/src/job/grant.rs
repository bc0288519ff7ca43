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
    /// may connect to all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<IpNet>,
    /// Programs, by path or by directory, that process starts may execute.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub programs: Vec<PathBuf>,
    /// Directories in which processes may work and write their output.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub directories: Vec<PathBuf>,
    /// Environment variables that a job may set for its process, by name, or by prefix with a `*`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Secrets that headers may refer to: `env:NAME`, `file:PATH`, or `file:DIRECTORY/`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
}
