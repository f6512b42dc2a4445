//! The commands `completions` and `man`, whose output is generated from the definition of the command line.

use std::io::{self, Write};
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::Cli;
use crate::refusal::Exit;
use crate::refusal::Refusal;

/// Prints the completion script for `shell`.
///
/// # Errors
/// A [`Refusal`] when `out` cannot be written to. A reader that leaves early (`| head`) is no error.
pub fn completions(shell: Shell, out: &mut impl Write) -> Result<Exit, Refusal> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "stream-processor", &mut script);
    match out.write_all(&script).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Refusal::new(Exit::Findings, format!("the completions cannot be printed: {error}")))
        }
        _ => Ok(Exit::Done),
    }
}

/// Writes a manual page for each command into `folder`.
///
/// # Errors
/// A [`Refusal`] when the folder cannot be written to.
pub fn manual(folder: &Path) -> Result<Exit, Refusal> {
    let written = std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(Cli::command(), folder));
    match written {
        Ok(()) => Ok(Exit::Done),
        Err(error) => {
            let message =
                format!("{}: the manual pages cannot be written: {error}; choose another folder", folder.display());
            Err(Refusal::new(Exit::Usage, message))
        }
    }
}
