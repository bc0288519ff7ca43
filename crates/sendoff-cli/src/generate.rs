//! `sendoff completions` and `sendoff man`: made from the grammar itself.

use std::{path::Path, process::ExitCode};

use clap::CommandFactory;

use crate::{
    args::Cli,
    failure::{Exit, Failure},
    out,
};

/// Writes a completion script to stdout.
pub(crate) fn completions(shell: clap_complete::Shell) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "sendoff", &mut script);
    out::bytes(&script)?;
    Ok(Exit::Ok.into())
}

/// Writes the manual page of sendoff to stdout, or all pages into a directory.
pub(crate) fn man(dir: Option<&Path>) -> Result<ExitCode, Failure> {
    let Some(dir) = dir else {
        let mut page = Vec::new();
        let rendered = clap_mangen::Man::new(Cli::command()).render(&mut page);
        rendered.map_err(|err| Failure::not_all(err.to_string()))?;
        out::bytes(&page)?;
        return Ok(Exit::Ok.into());
    };
    let failed = |err: std::io::Error| {
        Failure::usage(format!("{}: the manual pages cannot be written: {err}", dir.display()))
    };
    std::fs::create_dir_all(dir).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), dir).map_err(failed)?;
    Ok(Exit::Ok.into())
}
