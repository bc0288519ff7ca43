//! Where the daemon listens: a unix socket for its own user, TCP if asked to.

use std::{
    fs::{DirBuilder, Permissions},
    io,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixSocket};

use crate::failure::Failure;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1_024;

/// The unix socket; its path goes when this is dropped.
pub(super) struct Unix {
    pub(super) listener: UnixListener,
    _path: OwnPath,
}

/// A path that was made here.
struct OwnPath {
    path: PathBuf,
    file: (u64, u64),
}

impl Drop for OwnPath {
    fn drop(&mut self) {
        // Unless somebody put another one in its place.
        if identity(&self.path).is_ok_and(|file| file == self.file) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = std::fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

/// Listens on a unix socket that nobody but its owner and root can ever connect to: nothing
/// listens on it before its mode is right.
pub(super) fn unix(path: &Path) -> Result<Unix, Failure> {
    let wrong = |err: io::Error| {
        Failure::store(format!(
            "{}: cannot listen there: {err}; --socket names another place",
            path.display()
        ))
    };
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(wrong)?;
    }
    remove_stale(path)?;
    let socket = UnixSocket::new_stream().map_err(wrong)?;
    socket.bind(path).map_err(wrong)?;
    let own = OwnPath { path: path.to_owned(), file: identity(path).map_err(wrong)? };
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(wrong)?;
    let listener = socket.listen(BACKLOG).map_err(wrong)?;
    Ok(Unix { listener, _path: own })
}

/// Removes a socket on which nobody listens any more.
fn remove_stale(path: &Path) -> Result<(), Failure> {
    let taken =
        |why: &str| Failure::store(format!("{}: {why}; --socket names another place", path.display()));
    match std::fs::symlink_metadata(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(err) => return Err(taken(&err.to_string())),
        Ok(file) if !file.file_type().is_socket() => {
            return Err(taken("something that is no socket is there already"));
        }
        Ok(_) => {}
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(err) if err.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|err| taken(&err.to_string()))
        }
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(err) => Err(taken(&err.to_string())),
        Ok(_) => Err(taken("another daemon, with another store, listens there")),
    }
}

/// Listens by TCP. A burst of connections finds room to wait: one that does not is tried again by
/// its client's kernel only after a second.
pub(super) fn tcp(address: SocketAddr) -> Result<TcpListener, Failure> {
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A daemon that is started again need not wait until old connections are forgotten.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().map_err(|err| {
        let advice = match err.kind() {
            io::ErrorKind::AddrInUse => "; something listens there already: choose another port",
            io::ErrorKind::PermissionDenied => "; ports below 1024 are for root: choose another",
            _ => "",
        };
        Failure::store(format!("cannot listen on {address}: {err}{advice}"))
    })
}
