//! Names of environment variables, and references to secrets.

use std::path::{Path, PathBuf};

use super::paths;

/// Whether a pattern allows the variable: `NAME`, `PREFIX*`, or `*` for all.
pub(in crate::starter) fn holds_variable(patterns: &[String], name: &str) -> bool {
    patterns.iter().any(|pattern| is_variable(pattern, name))
}

/// Whether a pattern allows the secret in a variable: as for variables, behind `env:`.
pub(in crate::starter) fn holds_env_secret(patterns: &[String], name: &str) -> bool {
    let mut patterns = patterns.iter().filter_map(|pattern| pattern.strip_prefix("env:"));
    patterns.any(|pattern| is_variable(pattern, name))
}

/// Whether a pattern allows the secret in a file: `file:PATH` that file, `file:DIRECTORY/` all
/// below it. `resolved` says that `path` holds no symbolic links; the patterns' own are followed
/// then.
pub(in crate::starter) fn holds_file_secret(patterns: &[String], path: &Path, resolved: bool) -> bool {
    patterns.iter().filter_map(|pattern| pattern.strip_prefix("file:")).any(|pattern| {
        let entry = Path::new(pattern);
        if !pattern.ends_with('/') {
            let leads_to = || std::fs::canonicalize(entry).is_ok_and(|entry| entry == path);
            return entry.is_absolute() && (entry == path || resolved && leads_to());
        }
        let entry = [PathBuf::from(entry)];
        if resolved { paths::holds_resolved(&entry, path) } else { paths::holds(&entry, path) }
    })
}

fn is_variable(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(list: &[&str]) -> Vec<String> {
        list.iter().map(|&pattern| pattern.to_owned()).collect()
    }

    #[test]
    fn variables_match_by_name_or_prefix() {
        for (pattern, name, wanted) in [
            ("A", "A", true),
            ("A", "AB", false),
            ("A", "a", false),
            ("A*", "A", true),
            ("A*", "AB", true),
            ("A*", "B", false),
            ("*", "LD_PRELOAD", true),
            ("APP_*", "LD_PRELOAD", false),
            ("", "A", false),
            ("A*B", "AxB", false),
        ] {
            assert_eq!(holds_variable(&patterns(&[pattern]), name), wanted, "{pattern} {name}");
        }
        assert!(!holds_variable(&[], "A"));
        assert!(holds_variable(&patterns(&["A", "B"]), "B"));
    }

    #[test]
    fn secrets_match_by_kind_and_name() {
        let variable = |pattern: &str, name: &str| holds_env_secret(&patterns(&[pattern]), name);
        assert!(variable("env:A", "A") && variable("env:*", "A") && variable("env:A*", "AB"));
        assert!(
            !variable("env:A", "AB")
                && !variable("A", "A")
                && !variable("*", "A")
                && !variable("file:/", "A")
        );
        for (pattern, path, wanted) in [
            ("file:/run/token", "/run/token", true),
            ("file:/run/token", "/run/token2", false),
            ("file:/run/token", "/run/token/x", false),
            ("file:/run", "/run/token", false),
            ("file:/run/", "/run/token", true),
            ("file:/run/", "/run/a/token", true),
            ("file:/run/", "/run-evil/token", false),
            ("file:/", "/etc/shadow", true),
            ("file:*", "/etc/shadow", false),
            ("file:", "/etc/shadow", false),
            ("env:*", "/etc/shadow", false),
            ("/run/", "/run/token", false),
        ] {
            assert_eq!(
                holds_file_secret(&patterns(&[pattern]), Path::new(path), false),
                wanted,
                "{pattern} {path}"
            );
        }
    }

    #[test]
    fn an_allowed_link_allows_the_secret_that_it_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("v1")).unwrap();
        std::fs::write(root.join("v1/token"), "x").unwrap();
        std::os::unix::fs::symlink("v1/token", root.join("token")).unwrap();
        let allowed = patterns(&[&format!("file:{}", root.join("token").display())]);
        assert!(holds_file_secret(&allowed, &root.join("v1/token"), true));
        assert!(!holds_file_secret(&allowed, &root.join("v1/token"), false));
        assert!(!holds_file_secret(&allowed, &root.join("v1/other"), true));
    }
}
