//! `emails preview`: what an e-mail looks like, with sample data. Needs no configuration and no database.

use std::fs;
use std::io::{self, Write};

use super::{EmailsCommand, Exit};
use crate::app::Refusal;
use crate::mail::compose::{Template, compose};
use crate::mail::sample;

/// Runs the command.
///
/// # Errors
/// A [`Refusal`] when the file cannot be written.
pub fn run(command: &EmailsCommand, out: &mut impl Write) -> Result<Exit, Refusal> {
    let EmailsCommand::Preview { template, out: file, text } = command;
    let composed = compose(&sample::email(*template));
    let composed = composed.map_err(|fault| Refusal::new(Exit::Findings, fault.to_string()))?;
    let shown = if *text { composed.text } else { composed.html };
    let written = match file {
        Some(file) => fs::write(file, shown).map_err(|error| format!("--out {}: {error}", file.display())),
        None => match out.write_all(shown.as_bytes()).and_then(|()| out.flush()) {
            // A reader that left early (`| head`) is no error.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.to_string()),
            _ => Ok(()),
        },
    };
    written.map(|()| Exit::Done).map_err(|reason| Refusal::new(Exit::Usage, reason))
}

/// The template of this name.
///
/// # Errors
/// Names those that there are.
pub fn template(name: &str) -> Result<Template, String> {
    let names = || Template::ALL.map(Template::name).join(", ");
    Template::named(name).ok_or_else(|| format!("there is no such e-mail; there are {}", names()))
}
