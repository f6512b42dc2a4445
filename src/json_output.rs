//! The JSON documents that commands print with `--json`: one document each time, with the name of its form in the field
//! `schema`. The files of `docs/json/` describe the forms.

use serde_json::{Value, json};

/// The form of a document. A change that a reader could notice gives the form another number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonForm {
    Backfill,
    BackfillDryRun,
    BackfillMirror,
    BackfillMirrorDryRun,
    Certificate,
    CertificateCheck,
    CommandsCancel,
    CommandsList,
    Configuration,
    DeadLettersDrop,
    DeadLettersList,
    DeadLettersRetry,
    DeadLettersShow,
    Doctor,
    Events,
    JobsHistory,
    JobsList,
    JobsRun,
    /// The end of a command that was refused, failed or was interrupted.
    NotDone,
    Pause,
    PhaseHistory,
    PhaseSet,
    PhaseShow,
    Replay,
    ReplayDryRun,
    ReplayFind,
    Resume,
    Resync,
    Setup,
    Status,
    Stepdown,
    SupportBundle,
    Throttle,
    TokensList,
    TokensShow,
    Verification,
}

impl JsonForm {
    /// The text in the field `schema`.
    #[must_use]
    pub const fn schema(self) -> &'static str {
        match self {
            Self::Backfill => "stream-processor/backfill/1",
            Self::BackfillDryRun => "stream-processor/backfill-dry-run/1",
            Self::BackfillMirror => "stream-processor/backfill-mirror/1",
            Self::BackfillMirrorDryRun => "stream-processor/backfill-mirror-dry-run/1",
            Self::Certificate => "stream-processor/certificate/1",
            Self::CertificateCheck => "stream-processor/certificate-check/1",
            Self::CommandsCancel => "stream-processor/commands-cancel/1",
            Self::CommandsList => "stream-processor/commands-list/1",
            Self::Configuration => "stream-processor/configuration/1",
            Self::DeadLettersDrop => "stream-processor/dead-letters-drop/1",
            Self::DeadLettersList => "stream-processor/dead-letters-list/1",
            Self::DeadLettersRetry => "stream-processor/dead-letters-retry/1",
            Self::DeadLettersShow => "stream-processor/dead-letters-show/1",
            Self::Doctor => "stream-processor/doctor/1",
            Self::Events => "stream-processor/events/1",
            Self::JobsHistory => "stream-processor/jobs-history/1",
            Self::JobsList => "stream-processor/jobs-list/1",
            Self::JobsRun => "stream-processor/jobs-run/1",
            Self::NotDone => "stream-processor/not-done/1",
            Self::Pause => "stream-processor/pause/1",
            Self::PhaseHistory => "stream-processor/phase-history/1",
            Self::PhaseSet => "stream-processor/phase-set/1",
            Self::PhaseShow => "stream-processor/phase-show/1",
            Self::Replay => "stream-processor/replay/1",
            Self::ReplayDryRun => "stream-processor/replay-dry-run/1",
            Self::ReplayFind => "stream-processor/replay-find/1",
            Self::Resume => "stream-processor/resume/1",
            Self::Resync => "stream-processor/resync/1",
            Self::Setup => "stream-processor/setup/1",
            Self::Status => "stream-processor/status/1",
            Self::Stepdown => "stream-processor/stepdown/1",
            Self::SupportBundle => "stream-processor/support-bundle/1",
            Self::Throttle => "stream-processor/throttle/1",
            Self::TokensList => "stream-processor/tokens-list/1",
            Self::TokensShow => "stream-processor/tokens-show/1",
            Self::Verification => "stream-processor/verification/1",
        }
    }

    /// The document of this form with these fields.
    #[must_use]
    pub fn document(self, fields: Value) -> Value {
        let mut document = fields;
        if let Some(object) = document.as_object_mut() {
            object.insert("schema".to_owned(), self.schema().into());
        }
        document
    }

    /// Prints the document with these fields on standard output.
    #[expect(clippy::print_stdout, reason = "the output of a command")]
    pub fn print(self, fields: Value) {
        println!("{:#}", self.document(fields));
    }
}

/// Prints the document of a command that was not done, so that a reader of `--json` always gets one.
pub fn print_not_done(exit_code: u8, message: &str) {
    JsonForm::NotDone.print(json!({ "exit_code": exit_code, "message": message }));
}
