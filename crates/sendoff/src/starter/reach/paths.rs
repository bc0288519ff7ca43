//! Paths: what lies in an allowed place, also where symbolic links lead.

use std::{
    io,
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags},
    io::{Errno, retry_on_intr},
};

/// Whether `path` is one of these or lies below one, component by component: `/opt/jobs` does not
/// allow `/opt/jobs-evil`. Of a path that may hold symbolic links this says nothing.
pub(in crate::starter) fn holds(allowed: &[PathBuf], path: &Path) -> bool {
    allowed.iter().any(|entry| is_below(path, entry))
}

/// The same of a path without symbolic links; the allowed ones are followed if they are links.
pub(in crate::starter) fn holds_resolved(allowed: &[PathBuf], path: &Path) -> bool {
    holds(allowed, path)
        || allowed.iter().any(|entry| {
            entry.is_absolute() && std::fs::canonicalize(entry).is_ok_and(|entry| is_below(path, &entry))
        })
}

/// Whether a path goes up somewhere, so that what it begins with says nothing of where it ends.
pub(in crate::starter) fn goes_up(path: &Path) -> bool {
    path.components().any(|component| component == Component::ParentDir)
}

/// Opens a path that was found to hold no symbolic links, and fails with ELOOP if it holds one now:
/// what is opened is what was allowed.
pub(in crate::starter) fn open_resolved(path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW;
    match retry_on_intr(|| rustix::fs::openat2(CWD, path, flags, mode, ResolveFlags::NO_SYMLINKS)) {
        // A kernel or a sandbox without this call: then at least the last component is no link.
        Err(Errno::NOSYS | Errno::PERM) => {
            retry_on_intr(|| rustix::fs::open(path, flags, mode)).map_err(Into::into)
        }
        opened => Ok(opened?),
    }
}

fn is_below(path: &Path, entry: &Path) -> bool {
    // Every path begins with an empty one.
    entry.is_absolute() && path.starts_with(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_match_by_whole_components() {
        let allowed = ["/opt/jobs", "/bin/true", "/srv/x/", "", "relative", "/a/../b"].map(PathBuf::from);
        for (path, wanted) in [
            ("/opt/jobs", true),
            ("/opt/jobs/", true),
            ("/opt/jobs/a", true),
            ("/opt//jobs/a/b", true),
            ("/opt/./jobs/a", true),
            ("/opt/jobs-evil", false),
            ("/opt/jobs-evil/a", false),
            ("/opt/job", false),
            ("/opt", false),
            ("/", false),
            ("/bin/true", true),
            ("/bin/true2", false),
            ("/bin", false),
            ("/srv/x", true),
            ("/srv/x/y", true),
            ("/b/c", false),
            ("relative/a", false),
            ("/relative", false),
        ] {
            assert_eq!(holds(&allowed, Path::new(path)), wanted, "{path}");
        }
        assert!(holds(&[PathBuf::from("/")], Path::new("/any/thing")));
        assert!(!holds(&[], Path::new("/")));
    }

    #[test]
    fn an_allowed_link_allows_what_it_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("real")).unwrap();
        std::os::unix::fs::symlink(root.join("real"), root.join("link")).unwrap();
        let allowed = [root.join("link")];
        assert!(holds_resolved(&allowed, &root.join("real/x")));
        assert!(!holds_resolved(&allowed, &root.join("other")));
        assert!(holds_resolved(&[root.join("link/../real")], &root.join("real/x")));
    }

    #[test]
    fn a_link_anywhere_in_a_resolved_path_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("real")).unwrap();
        std::fs::write(root.join("real/file"), "x").unwrap();
        std::os::unix::fs::symlink("real", root.join("link")).unwrap();
        std::os::unix::fs::symlink("file", root.join("real/link")).unwrap();
        let open = |path| open_resolved(&root.join(path), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        assert!(open("real/file").is_ok());
        for path in ["link/file", "real/link"] {
            assert_eq!(Errno::from_io_error(&open(path).unwrap_err()), Some(Errno::LOOP), "{path}");
        }
    }

    #[test]
    fn going_up_is_seen_anywhere() {
        for path in ["/a/../b", "/..", "/a/..", "/../a"] {
            assert!(goes_up(Path::new(path)), "{path}");
        }
        for path in ["/a/b", "/a/..b", "/a/b..", "/a/.../b", "/a/./b"] {
            assert!(!goes_up(Path::new(path)), "{path}");
        }
    }
}
