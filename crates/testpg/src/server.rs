//! One server: its start, its databases and its end.

use std::{
    fmt, fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use rustix::process::Signal;

use crate::{
    Installation, Options, Session,
    error::{Context, Error, Result},
    options::setting,
    place,
    port::Port,
    processes,
    watchdog::{self, Watchdog},
};

pub(crate) const USER: &str = "sendoff";
/// Another program may have taken the port in the moment before the server does.
const ATTEMPTS: usize = 5;
const USUAL: &[(&str, &str)] = &[
    ("listen_addresses", "127.0.0.1"),
    ("max_connections", "200"),
    ("jit", "off"),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
    // A standby that starts late still finds what it needs.
    ("wal_keep_size", "256MB"),
    // In files, because a killed server would leave POSIX shared memory behind.
    ("dynamic_shared_memory_type", "mmap"),
];

/// A running (or killed, or stopped) server with a directory of its own in the temp directory. Listens on 127.0.0.1
/// and on a Unix socket in that directory, trusts everyone, and has the superuser `sendoff`.
///
/// Dropping it stops it and removes the directory. Both happen too when the process ends in any other way, by
/// SIGKILL as well.
pub struct Server {
    pub(crate) installation: Installation,
    pub(crate) name: String,
    directory: PathBuf,
    process: Mutex<Process>,
    /// Given back last, when nothing listens on it any more.
    port: Port,
}

pub(crate) struct Process {
    pub(crate) watchdog: Watchdog,
    /// The postmaster, from its start until its end was seen.
    pid: Option<u32>,
}

impl Server {
    /// Starts a fresh server and waits until it answers.
    pub fn start(installation: &Installation, options: Options) -> Result<Self> {
        Self::build(installation, "primary", |server| {
            let (template, data) = (installation.template()?, server.data());
            let copy = ["-a", "--reflink=auto", &template.to_string_lossy(), &data.to_string_lossy()];
            server.process().watchdog.run(Path::new("cp"), &copy)?;
            let mut text: String = USUAL.iter().map(|(name, value)| setting(name, value)).collect();
            if let Some(tls) = &options.tls {
                for (file, name) in [(&tls.certificate, "ssl_cert_file"), (&tls.key, "ssl_key_file")] {
                    let copy = server.data().join(name);
                    fs::copy(file, &copy).context(format_args!("cannot copy {}", file.display()))?;
                    fs::set_permissions(&copy, fs::Permissions::from_mode(0o600))
                        .context("cannot protect a key")?;
                    place::give(&copy)?;
                    text.push_str(&setting(name, name));
                }
                text.push_str(&setting("ssl", "on"));
            }
            text.extend(options.settings.iter().map(|(name, value)| setting(name, value)));
            server.configure("postgresql.conf", &text)
        })
    }

    /// A server in a new directory that `fill` fills with data.
    pub(crate) fn build(
        installation: &Installation,
        name: &str,
        fill: impl Fn(&Self) -> Result<()>,
    ) -> Result<Self> {
        let mut last = Error::new("no attempt was made");
        for _ in 0..ATTEMPTS {
            let directory = place::new_directory()?;
            let watchdog = Watchdog::start(&directory)?;
            let server = Self {
                installation: installation.clone(),
                name: name.to_owned(),
                directory,
                process: Mutex::new(Process { watchdog, pid: None }),
                port: Port::reserve()?,
            };
            fill(&server)?;
            server.settle()?;
            match server.launch() {
                Ok(()) => return Ok(server),
                Err(error) if server.log().contains("Address already in use") => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// Its address for clients: `postgres://sendoff@127.0.0.1:PORT/DATABASE`.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{database}", self.port())
    }

    /// Its port on 127.0.0.1, the same for its whole life.
    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// The folder of its Unix socket, which is also its own directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The process id of its postmaster, if it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process().pid.filter(|&pid| processes::runs(pid))
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        watchdog::log(&self.directory)
    }

    /// Creates an empty database with a name that no other test of this process has; the answer is its url.
    pub fn new_database(&self) -> Result<String> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.sql(&format!("CREATE DATABASE {name}"))?;
        Ok(self.url(&name))
    }

    /// Runs statements on the database `postgres`: see [`Session::sql`].
    pub fn sql(&self, statements: &str) -> Result<Vec<Vec<Option<String>>>> {
        self.sql_in("postgres", statements)
    }

    /// Runs statements on a database: see [`Session::sql`].
    pub fn sql_in(&self, database: &str, statements: &str) -> Result<Vec<Vec<Option<String>>>> {
        self.session(database)?.sql(statements)
    }

    /// Opens a connection through the Unix socket.
    pub fn session(&self, database: &str) -> Result<Session> {
        Session::open(&self.directory.join(format!(".s.PGSQL.{}", self.port())), USER, database)
    }

    /// Kills the postmaster and every process of the server with SIGKILL, as a crash of the machine would end them
    /// (what the operating system has not yet written is kept, though). Does nothing if it does not run.
    pub fn kill(&self) -> Result<()> {
        let mut process = self.process();
        let Some(pid) = process.pid else { return Ok(()) };
        processes::kill_family(pid)?;
        process.pid = None;
        process.watchdog.forget_server()
    }

    /// Stops it as an administrator does: connections are closed, everything is written. Does nothing if it does not
    /// run.
    pub fn stop_fast(&self) -> Result<()> {
        let mut process = self.process();
        let Some(pid) = process.pid else { return Ok(()) };
        processes::signal(pid, Signal::INT)?;
        processes::wait_for("a server to stop", || Ok((!processes::runs(pid)).then_some(())))?;
        process.pid = None;
        process.watchdog.forget_server()
    }

    /// Starts it again on the same port, after a fast stop if it runs, and waits until it answers.
    pub fn restart(&self) -> Result<()> {
        self.stop_fast()?;
        self.launch()
    }

    pub(crate) fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Appends to one of its configuration files; the last line about a setting counts.
    pub(crate) fn configure(&self, file: &str, text: &str) -> Result<()> {
        let path = self.data().join(file);
        fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .context(format_args!("cannot write {}", path.display()))
    }

    /// Writes where it listens.
    pub(crate) fn settle(&self) -> Result<()> {
        let port = setting("port", &self.port().to_string());
        let sockets = setting("unix_socket_directories", &self.directory.to_string_lossy());
        self.configure("postgresql.conf", &(port + &sockets))
    }

    pub(crate) fn launch(&self) -> Result<()> {
        let mut process = self.process();
        let data = self.data().to_string_lossy().into_owned();
        let pid = process.watchdog.start_server(&self.installation.program("postgres"), &["-D", &data])?;
        process.pid = Some(pid);
        let ready = processes::wait_for("a server to answer", || match self.session("postgres") {
            Ok(_) => Ok(Some(())),
            Err(_) if processes::runs(pid) => Ok(None),
            Err(error) => Err(error),
        });
        if ready.is_err() && !processes::runs(pid) {
            process.pid = None;
            process.watchdog.forget_server()?;
        }
        ready.map_err(|error| {
            Error::new(format!("the server did not start: {error}; its log:\n{}", self.log()))
        })
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = self.installation.version();
        f.debug_struct("Server")
            .field("name", &self.name)
            .field("version", &version)
            .field("port", &self.port())
            .finish()
    }
}
