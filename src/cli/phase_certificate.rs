//! The command `phase certificate` (spec 10, "The certificate"): makes a certificate, or checks one.

use std::io::Read as _;
use std::path::PathBuf;

use bson::DateTime;
use chrono_tz::Tz;
use clap::Args;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::values;
use crate::certificate::check::{Broken, broken};
use crate::certificate::document::Certificate;
use crate::certificate::gather::make;
use crate::certificate::page::page;
use crate::context::Context;
use crate::json_output::JsonForm;
use crate::mongo::server_clock::server_time;
use crate::refusal::{Exit, Refusal};
use crate::shown_time::shown_times;
use crate::tasks::{Group, Task, signals};

/// Arguments of `phase certificate`.
#[derive(Debug, Args)]
pub struct CertificateArguments {
    /// Write the certificate as JSON to this new file; `-` is the standard output.
    #[arg(long, value_name = "FILE", value_parser = values::new_file)]
    pub out: Option<PathBuf>,
    /// Check this certificate against the database; `-` is the standard input. The exit code is 1 if something no
    /// longer holds.
    #[arg(long, value_name = "FILE", value_parser = certificate, conflicts_with = "out")]
    pub check: Option<Box<Certificate>>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

fn certificate(path: &str) -> Result<Box<Certificate>, String> {
    let mut text = String::new();
    let read = match path {
        "-" => std::io::stdin().read_to_string(&mut text),
        path => std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text)),
    };
    read.map_err(|error| format!("cannot be read: {error}; expected a file from `phase certificate --out FILE`"))?;
    Certificate::parse(&text).map(Box::new)
}

/// Refuses a certificate whose own digest is wrong. This needs no database.
///
/// # Errors
/// A [`Refusal`] with [`Exit::Findings`].
pub(super) fn check_digest(arguments: &CertificateArguments) -> Result<(), Refusal> {
    let wrong = arguments.check.as_ref().filter(|certificate| certificate.digest != certificate.own_digest());
    wrong.map_or(Ok(()), |_| {
        let message = "--check: the digest at the end of the certificate is wrong: the file was changed after it was \
                       made; take the original, or make a new certificate";
        Err(Refusal::new(Exit::Findings, message))
    })
}

/// Makes or checks a certificate, and prints it or what no longer holds.
///
/// # Errors
/// A [`Refusal`] when the database fails for good, or when the file cannot be written.
pub(super) async fn run(context: &Context, arguments: CertificateArguments) -> Result<Exit, Refusal> {
    let stop = CancellationToken::new();
    let mut group = Group::new(&stop);
    group.spawn(Task::Signals, signals(group.stop.clone()));
    let now = make(context, &group.stop).await?;
    if group.stop.is_cancelled() {
        return Ok(Exit::Interrupted);
    }
    match &arguments.check {
        Some(certificate) => {
            let time = server_time(&context.database).await?;
            Ok(tell(certificate, &now, time, arguments.json))
        }
        None => show(&now, &arguments, context.time_zone),
    }
}

#[expect(clippy::print_stdout, reason = "the output of the command")]
fn show(certificate: &Certificate, arguments: &CertificateArguments, zone: Tz) -> Result<Exit, Refusal> {
    let json = format!("{:#}", certificate.as_value());
    let is_standard = arguments.out.as_ref().is_some_and(|file| file.as_os_str() == "-");
    if let Some(file) = arguments.out.as_ref().filter(|_| !is_standard) {
        std::fs::write(file, format!("{json}\n")).map_err(|error| {
            let message = format!("{}: cannot be written: {error}; choose another file", file.display());
            Refusal::new(Exit::Usage, message)
        })?;
    }
    if arguments.json || is_standard {
        println!("{json}")
    } else {
        println!("{}", shown_times(&page(certificate), zone))
    }
    Ok(Exit::Done)
}

#[expect(clippy::print_stdout, reason = "the output of the command")]
fn tell(certificate: &Certificate, now: &Certificate, time: DateTime, as_json: bool) -> Exit {
    let broken = broken(certificate, now, time);
    if as_json {
        JsonForm::CertificateCheck.print(json!({ "holds": broken.is_empty(), "broken": broken }))
    } else if broken.is_empty() {
        println!("everything holds: the certificate of {} says what the database says", certificate.made_at)
    } else {
        broken.iter().for_each(|Broken { kind, found }| println!("{kind:<31} {found}"));
    }
    if broken.is_empty() { Exit::Done } else { Exit::Findings }
}
