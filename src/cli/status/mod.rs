//! The command `status` (spec 06). It shows the state of the whole service on one screen, read from the database.

mod lines;
mod report;
mod screen;

use std::io::IsTerminal as _;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use self::lines::{Line, Tone, lines};
use self::report::StatusReport;
use self::screen::{Screen, drawn};
use super::arguments::StatusArguments;
use crate::clock;
use crate::context::Context;
use crate::error::Failure;
use crate::json_output::JsonForm;
use crate::progress::tell;
use crate::refusal::{Exit, Refusal};
use crate::shown_time::shown;
use crate::tasks::{Group, Task, pause, signals};

/// The time between two reports of `--watch`.
const PAUSE: Duration = Duration::from_secs(2);

/// Runs the command and prints the report on standard output, once or with `--watch` until Ctrl-C.
///
/// # Errors
/// A [`Refusal`] when the database cannot be read. `--watch` shows such a failure and goes on.
pub async fn status(context: Context, arguments: StatusArguments) -> Result<Exit, Refusal> {
    if arguments.watch {
        watch(&context, arguments.ndjson).await
    } else {
        let report = StatusReport::read(&context, false).await?;
        if arguments.json {
            JsonForm::Status.print(json!(report))
        } else {
            print(&lines(&report, context.time_zone), &context)
        }
        Ok(Exit::Done)
    }
}

/// Reads the report as the fields of its JSON document.
///
/// # Errors
/// A [`Failure`] when the database cannot be read.
pub(super) async fn document(context: &Context) -> Result<Value, Failure> {
    Ok(json!(StatusReport::read(context, false).await?))
}

#[expect(clippy::print_stdout, reason = "the output of the command")]
fn print(lines: &[Line], context: &Context) {
    let colors = context.settings.log.colors && std::io::stdout().is_terminal();
    lines.iter().for_each(|line| println!("{}", drawn(line, usize::MAX, colors)));
}

/// Reads the report every two seconds, also during an outage, so that its end is seen too. Ctrl-C is the usual end, so
/// the exit code says success.
async fn watch(context: &Context, ndjson: bool) -> Result<Exit, Refusal> {
    let stop = CancellationToken::new();
    let mut group = Group::new(&stop);
    group.spawn(Task::Signals, signals(group.stop.clone()));
    let mut output = WatchOutput::begin(context, ndjson);
    loop {
        let report = tokio::select! {
            () = group.stop.cancelled() => break,
            report = StatusReport::read(context, !ndjson) => report,
        };
        output.show(context, report);
        if !pause(&group.stop, PAUSE).await {
            break;
        }
    }
    output.end(context);
    Ok(Exit::Done)
}

/// Where the reports of `--watch` go.
enum WatchOutput {
    /// Each report is a picture in place of the one before, which stays on the terminal at the end.
    Screen { screen: Screen, last: Vec<Line> },
    /// Each report follows the one before.
    Text,
    /// Each report is a line.
    Ndjson,
}

impl WatchOutput {
    fn begin(context: &Context, ndjson: bool) -> Self {
        let colors = context.settings.log.colors;
        let is_screen = !ndjson && std::io::stdout().is_terminal();
        match is_screen.then(|| Screen::enter(colors)) {
            Some(Ok(screen)) => Self::Screen { screen, last: Vec::new() },
            _ if ndjson => Self::Ndjson,
            _ => Self::Text,
        }
    }

    #[expect(clippy::print_stdout, reason = "the output of the command")]
    fn show(&mut self, context: &Context, report: Result<StatusReport, Failure>) {
        match (self, report) {
            (Self::Ndjson, Ok(report)) => println!("{}", JsonForm::Status.document(json!(report))),
            (Self::Text, Ok(report)) => print(&lines(&report, context.time_zone), context),
            (Self::Screen { screen, last }, Ok(report)) => {
                *last = lines(&report, context.time_zone);
                last.insert(0, Line::new(Tone::Plain, "at", &[&shown(clock::now(), context.time_zone)]));
                draw(screen, last);
            }
            (Self::Screen { screen, last }, Err(failure)) => {
                last.retain(|line| !line.text.starts_with(NO_ANSWER));
                let told = format!("{failure}; {}; retrying. Below is what was last known", failure.advice());
                last.insert(0, Line::new(Tone::Bad, NO_ANSWER, &[&told]));
                draw(screen, last);
            }
            (_, Err(failure)) => tell(&format!("the status could not be read: {failure}; retrying")),
        }
    }

    /// Leaves the screen. The last report stays.
    fn end(self, context: &Context) {
        if let Self::Screen { screen, last } = self {
            drop(screen);
            print(&last, context);
        }
    }
}

/// The name of the line about a database that does not answer.
const NO_ANSWER: &str = "no answer";

fn draw(screen: &Screen, lines: &[Line]) {
    // A terminal that is gone sends SIGHUP, which ends the command.
    let _ = screen.draw(lines);
}
