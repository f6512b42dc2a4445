//! The command `emails preview`, which renders an e-mail with sample data. It needs no configuration and no database.

use std::fs;
use std::io::{self, Write};

use super::job_arguments::EmailsCommand;
use crate::mail::compose::compose;
use crate::mail::sample;
use crate::refusal::Exit;
use crate::refusal::Refusal;

/// Runs the command and writes the e-mail to `out`, or to the file of `--out`.
///
/// # Errors
/// A [`Refusal`] when the e-mail cannot be composed, or the output cannot be written.
pub fn run(command: &EmailsCommand, out: &mut impl Write) -> Result<Exit, Refusal> {
    let EmailsCommand::Preview { template, out: file, text } = command;
    let composed = compose(&sample::email(*template));
    let composed = composed.map_err(|fault| Refusal::new(Exit::Findings, fault.to_string()))?;
    let shown = if *text { composed.text } else { composed.html };
    let written = match file.as_ref().filter(|file| file.as_os_str() != "-") {
        Some(file) => fs::write(file, shown).map_err(|error| format!("--out {}: {error}", file.display())),
        None => match out.write_all(shown.as_bytes()).and_then(|()| out.flush()) {
            // A reader that leaves early (`| head`) is no error.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.to_string()),
            _ => Ok(()),
        },
    };
    written.map(|()| Exit::Done).map_err(|reason| Refusal::new(Exit::Usage, reason))
}
