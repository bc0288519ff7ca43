//! The built command, in a place of its own.

use std::{
    path::Path,
    process::{Command, Stdio},
};

/// `sendoff` as it was built beside this example, without the flags and directories of whoever runs it.
pub(crate) fn command(place: &Path) -> Command {
    let own = std::env::current_exe().expect("a path");
    let built = own.parent().and_then(Path::parent).expect("target/release/examples").join("sendoff");
    let place = place.canonicalize().expect("it is there");
    let mut command = Command::new(built);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SENDOFF_") {
            command.env_remove(name);
        }
    }
    for name in ["XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"] {
        command.env(name, &place);
    }
    command.stdout(Stdio::piped());
    command
}
