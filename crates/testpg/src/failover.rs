//! Standbys: how they are made, become the primary, and how an old primary comes back.

use crate::{
    Server,
    error::{Context, Error, Result},
    options::setting,
    processes,
    server::USER,
};

impl Server {
    /// Starts a hot standby of this running server, which streams under `name`. It has no synchronous standbys of
    /// its own, so that it takes writes as soon as it is promoted.
    pub fn standby(&self, name: &str) -> Result<Self> {
        Self::build(&self.installation, name, |standby| standby.follow(self))
    }

    /// Sets `synchronous_standby_names` (`ANY 1 (*)`); `None` makes commits wait for no standby. Later commits heed
    /// it.
    pub fn set_synchronous(&self, names: Option<&str>) -> Result<()> {
        let names = names.unwrap_or_default();
        let value = names.replace('\'', "''");
        let mut session = self.session("postgres")?;
        session.sql(&format!("ALTER SYSTEM SET synchronous_standby_names = '{value}'"))?;
        session.sql("SELECT pg_reload_conf()")?;
        processes::wait_for("the new setting", || {
            let shown = self.sql("SHOW synchronous_standby_names")?;
            Ok((shown == [[Some(names.to_owned())]]).then_some(()))
        })?;
        // Commits heed the setting once the checkpointer has read it, which it does before it obeys this.
        self.sql("CHECKPOINT").map(drop)
    }

    /// Waits until a standby takes part in synchronous commits.
    pub fn wait_for_sync_standby(&self) -> Result<()> {
        processes::wait_for("a synchronous standby", || {
            let streaming = "SELECT 1 FROM pg_stat_replication WHERE state = 'streaming' \
                             AND sync_state IN ('sync', 'quorum')";
            Ok((!self.sql(streaming)?.is_empty()).then_some(()))
        })
    }

    /// Makes this standby a primary and waits until it takes writes.
    pub fn promote(&self) -> Result<()> {
        let promoted = self.sql("SELECT pg_promote(true, 60)")?;
        if promoted == [[Some("t".to_owned())]] {
            Ok(())
        } else {
            Err(Error::new("the standby was not promoted"))
        }
    }

    /// Comes back, on the same port, as a standby of `primary` under the name that it had (`primary`, if it was
    /// started as one). What it held is thrown away and copied anew, so it does not matter how it was stopped or what it had written.
    pub fn rejoin(&self, primary: &Self) -> Result<()> {
        self.kill()?;
        let data = self.data();
        std::fs::remove_dir_all(&data).context(format_args!("cannot remove {}", data.display()))?;
        self.follow(primary)?;
        self.settle()?;
        self.launch()
    }

    fn follow(&self, primary: &Self) -> Result<()> {
        let name = self.name.replace('\\', r"\\").replace('\'', r"\'");
        let from = format!("host=127.0.0.1 port={} user={USER} application_name='{name}'", primary.port());
        let data = self.data().to_string_lossy().into_owned();
        let arguments =
            ["--dbname", &from, "--pgdata", &data, "--write-recovery-conf", "--checkpoint=fast", "--no-sync"];
        self.process().watchdog.run(&self.installation.program("pg_basebackup"), &arguments)?;
        self.configure("postgresql.auto.conf", &setting("synchronous_standby_names", ""))
    }
}
