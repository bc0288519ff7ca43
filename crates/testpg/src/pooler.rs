//! PgBouncer between clients and a server, pooling by transaction: found on the machine, or unpacked from a
//! Debian's packages, which needs no root.

use std::{
    env, fmt, fs,
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    Server,
    error::{Context, Error, Result},
    place,
    port::Port,
    processes,
    server::USER,
    watchdog::{self, Watchdog},
};

const CURE: &str = "install pgbouncer, or name the program in SENDOFF_PGBOUNCER";
/// With what it needs besides the C library and OpenSSL, as Debian 12 calls it.
const PACKAGES: [&str; 3] = ["pgbouncer", "libevent-2.1-7", "libc-ares2"];

/// A running PgBouncer with a directory of its own. It ends when it is dropped, and when the process ends in
/// any other way.
pub struct Pooler {
    _watchdog: Watchdog,
    directory: PathBuf,
    /// Given back last, when nothing listens on it any more.
    port: Port,
}

/// The program, and where its libraries lie if the system does not know.
struct Program {
    path: PathBuf,
    libraries: Option<PathBuf>,
}

impl Pooler {
    /// Starts one before this server, with so many connections to each of its databases. None, which it says in a
    /// line with the cure, if there is no PgBouncer and none can be fetched.
    pub fn start(server: &Server, connections: usize) -> Result<Option<Self>> {
        let program = match Program::find() {
            Ok(program) => program,
            Err(reason) => {
                println!("skipped: no pooler found: {CURE} ({})", reason.to_string().replace('\n', "; "));
                return Ok(None);
            }
        };
        let directory = place::new_directory()?;
        let mut watchdog = Watchdog::start(&directory)?;
        let port = Port::reserve()?;
        let settings = directory.join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={} user={USER}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {}\nunix_socket_dir =\nauth_type = any\n\
             pool_mode = transaction\ndefault_pool_size = {connections}\nserver_reset_query =\n\
             max_client_conn = 500\nserver_idle_timeout = 2\n",
            server.port(),
            port.number,
        );
        fs::write(&settings, text).context(format_args!("cannot write {}", settings.display()))?;
        // It ignores QUIT, and has nothing to lose.
        watchdog.stop_by("KILL")?;
        let pid = program.launch(&mut watchdog, &settings)?;
        let pooler = Self { _watchdog: watchdog, directory, port };
        processes::wait_for("a pooler to listen", || {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, pooler.port.number)).is_ok() {
                return Ok(Some(()));
            }
            let ended = || Error::new(format!("the pooler did not start; its log:\n{}", pooler.log()));
            if processes::runs(pid) { Ok(None) } else { Err(ended()) }
        })?;
        Ok(Some(pooler))
    }

    /// The address of one of the server's databases by way of the pooler.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{database}", self.port.number)
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        watchdog::log(&self.directory)
    }
}

impl Program {
    /// The first of: the one named by `SENDOFF_PGBOUNCER`, the machine's own, the cached copy, a fetched one.
    fn find() -> Result<Self> {
        if let Some(given) = env::var_os("SENDOFF_PGBOUNCER") {
            return Ok(Self { path: given.into(), libraries: None });
        }
        let folders = env::var_os("PATH").unwrap_or_default();
        let folders = env::split_paths(&folders).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
        let installed = folders.map(|folder| folder.join("pgbouncer")).find(|path| path.is_file());
        if let Some(path) = installed {
            return Ok(Self { path, libraries: None });
        }
        let copy = place::open_cache()?.join(format!("sendoff-pgbouncer-{}", env::consts::ARCH));
        place::once(&copy, fetch)?;
        if !place::is_ours(&copy) {
            return Err(Error::new(format!("{} is not this user's; remove it", copy.display())));
        }
        let libraries = copy.join(format!("usr/lib/{}-linux-gnu", env::consts::ARCH));
        Ok(Self { path: copy.join("usr/sbin/pgbouncer"), libraries: Some(libraries) })
    }

    fn launch(&self, watchdog: &mut Watchdog, settings: &Path) -> Result<u32> {
        let (path, settings) = (self.path.to_string_lossy(), settings.to_string_lossy());
        match &self.libraries {
            None => watchdog.start_server(&self.path, &[&settings]),
            Some(libraries) => {
                let libraries = format!("LD_LIBRARY_PATH={}", libraries.display());
                watchdog.start_server(Path::new("/usr/bin/env"), &[&libraries, &path, &settings])
            }
        }
    }
}

fn fetch(into: &Path) -> Result<()> {
    fs::create_dir(into).context(format_args!("cannot create {}", into.display()))?;
    place::finish(Command::new("apt-get").args(["download", "--quiet"]).args(PACKAGES).current_dir(into))?;
    for entry in fs::read_dir(into).context("cannot list the packages")?.flatten() {
        if entry.path().extension().is_some_and(|ending| ending == "deb") {
            place::finish(Command::new("dpkg-deb").arg("-x").arg(entry.path()).arg(into))?;
            fs::remove_file(entry.path()).context("cannot remove a package")?;
        }
    }
    // The mode of the last package's root may have come with it.
    place::finish(Command::new("chmod").args(["-R", "a+rX,go-w"]).arg(into)).map(drop)
}

impl fmt::Debug for Pooler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pooler").field("port", &self.port.number).finish_non_exhaustive()
    }
}
