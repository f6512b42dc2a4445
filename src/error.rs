//! The one table of errors: every failure is mapped to what is done about it, with a sentence of
//! advice for the operator (spec 03, "One table of errors"). Classification is data; acting on it is
//! the business of `run`. Nothing here shows values of documents: server messages may quote them.

use mongodb::error::{
    Error as MongoError, ErrorKind, RESUMABLE_CHANGE_STREAM_ERROR, RETRYABLE_WRITE_ERROR, WriteFailure,
};
use resume_tokens::StoreError;

use crate::model::dead_letter::Reason;
use resume_tokens::TokenError;

/// `ConversionFailure`: the code of statements of a command that began too late. No other statement of the
/// service converts anything.
pub(crate) const FENCED: i32 = 241;

/// Why an event could not be read. The stream was opened by us, so this means that the server sent
/// something that the manual does not describe.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// No usable `_id`.
    #[error("a change event without a usable resume token: {0}")]
    Token(#[from] TokenError),
    /// Not valid BSON.
    #[error("a change event that is no valid BSON: {0}")]
    Damaged(String),
    /// No `operationType` that we asked for.
    #[error("a change event of the unknown operation type `{0}`")]
    Operation(String),
    /// A change of a document that does not tell of which.
    #[error("a change event without a usable `{0}`")]
    Incomplete(&'static str),
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Opening or reading the change stream.
    #[error("the change stream failed: {}", describe(.0))]
    Cursor(#[source] MongoError),
    /// A read of documents.
    #[error("a read failed: {}", describe(.0))]
    Read(#[source] MongoError),
    /// A write of documents.
    #[error("a write failed: {}", describe(.0))]
    Write(#[source] MongoError),
    /// A write that the server applied, or tried to, without telling that a majority has it.
    #[error("a write was not acknowledged by a majority (code {0})")]
    WriteConcern(i32),
    /// A statement inside a write command failed in a way that passes.
    #[error("a statement of a write failed for now (code {0})")]
    Statement(i32),
    /// A write was not answered within what the lease allows; it may or may not be done.
    #[error("a write was not answered in time")]
    Overdue,
    /// Saving or loading a checkpoint.
    #[error(transparent)]
    Store(StoreError),
    /// An event that the manual does not describe.
    #[error(transparent)]
    Event(#[from] EventError),
    /// A reply of the change stream lacks what every reply has.
    #[error("a reply of the change stream has no `{0}`")]
    Reply(&'static str),
    /// The server did not answer a `getMore` in its own time limit and a margin.
    #[error("the change stream did not answer in time")]
    Stalled,
    /// Another member of the replica set is the primary now.
    #[error("the replica set has a new primary")]
    NewPrimary,
    /// Cluster times went backwards.
    #[error("the cluster times of the change stream went backwards")]
    Backwards,
    /// A document of the service's own collections cannot be read.
    #[error("a document of `{collection}` has no usable `{field}`")]
    OwnDocument {
        /// The collection.
        collection: &'static str,
        /// The field.
        field: &'static str,
    },
    /// The position is later than the server's own time: it comes from another replica set.
    #[error("the position of the change stream is ahead of the server's time")]
    Ahead,
    /// The checkpoint is of another history than that of the database; the reason.
    #[error("the checkpoint is {0}")]
    OtherHistory(&'static str),
    /// The process is to end and the batch was not done in time; it is applied again at the next start.
    #[error("interrupted in the middle of a batch, which is applied again at the next start")]
    Interrupted,
    /// The phase was changed while a batch was under way; the batch is applied again under the new one.
    #[error("the phase was changed in the middle of a batch, which is applied again")]
    PhaseChanged,
    /// Another instance took the lease.
    #[error("the lease was lost to another instance")]
    LeaseLost,
}

/// What is done about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Directive {
    /// Do the same again after a growing delay; the checkpoint stays where it is.
    Retry,
    /// Stop being ready, and retry slowly: only an operator can help.
    RetryUnready,
    /// Open the cursor anew after the last processed token.
    Reopen,
    /// Read again from the same position, event by event; what fails alike there is about the next event, which is passed
    /// over: a gap, and a look at every recruiter.
    PassOver,
    /// The position is lost: go on from now, and look at every recruiter again.
    Resync,
    /// End the process, or at least its leadership.
    Stop,
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Mongo(refused) if is_fenced(refused) => Self::Overdue,
            _ => Self::Store(error),
        }
    }
}

/// Whether the server refused a write because it began too late for the lease.
fn is_fenced(error: &MongoError) -> bool {
    matches!(&*error.kind, ErrorKind::Write(WriteFailure::WriteError(error)) if error.code == FENCED)
}

impl Failure {
    /// The table.
    #[must_use]
    pub fn directive(&self) -> Directive {
        match self {
            Self::Cursor(error) => cursor_directive(error),
            Self::Read(error) | Self::Write(error) => command_directive(error),
            Self::WriteConcern(_) | Self::Statement(_) | Self::Overdue | Self::PhaseChanged => Directive::Retry,
            Self::Event(_) | Self::Reply(_) => Directive::PassOver,
            Self::Stalled | Self::NewPrimary => Directive::Reopen,
            Self::Store(StoreError::NewerTerm { .. }) | Self::LeaseLost | Self::Interrupted | Self::Backwards => {
                Directive::Stop
            }
            Self::Store(StoreError::Garbled { .. }) | Self::Ahead | Self::OtherHistory(_) => Directive::Resync,
            Self::Store(StoreError::Mongo(error)) => command_directive(error),
            Self::Store(_) | Self::OwnDocument { .. } => Directive::RetryUnready,
        }
    }

    /// One sentence for the operator.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match (self, self.directive()) {
            (Self::Store(StoreError::Garbled { .. }), _) => {
                "the stored checkpoint cannot be read; everything is looked at again"
            }
            (Self::Store(StoreError::NewerTerm { .. }) | Self::LeaseLost, _) => {
                "another instance leads; this one stands by, nothing to do"
            }
            (Self::Store(StoreError::Io { .. }), _) => "check that tokens.directory exists, is writable and has space",
            (Self::Ahead | Self::OtherHistory(_), _) => {
                "the server is another one, or was restored from a backup; everything is looked at again"
            }
            (Self::OwnDocument { .. }, _) => "look at the document and correct or remove it",
            (_, Directive::Retry) => "nothing to do: it is tried again until it succeeds",
            (_, Directive::RetryUnready) => {
                "check the user's privileges and credentials in MongoDB; it is tried again every few seconds"
            }
            (_, Directive::Reopen) => "nothing to do: the stream is opened again after the last processed event",
            (_, Directive::PassOver) => {
                "nothing to do: an event that cannot be delivered or read is passed over, and everything is looked at again; if \
                 every attempt fails alike, look up the code in MongoDB's manual"
            }
            (_, Directive::Resync) => {
                "the position left the oplog, or is of another one: consider a larger oplog; everything is looked at again"
            }
            (_, Directive::Stop) => "look at the log before this line, then start the service again",
        }
    }

    /// The server's code, or a name for what has none; a metric label with few values.
    #[must_use]
    pub fn code(&self) -> String {
        match self {
            Self::Cursor(error) | Self::Read(error) | Self::Write(error) | Self::Store(StoreError::Mongo(error)) => {
                command_code(error).map_or_else(|| kind_name(error).to_owned(), |code| code.to_string())
            }
            Self::WriteConcern(code) | Self::Statement(code) => code.to_string(),
            Self::Store(_) => "store".to_owned(),
            Self::Event(_) | Self::Reply(_) => "reply".to_owned(),
            Self::Stalled => "stalled".to_owned(),
            Self::NewPrimary => "new_primary".to_owned(),
            Self::Overdue => "overdue".to_owned(),
            Self::Backwards => "backwards".to_owned(),
            Self::Ahead => "ahead".to_owned(),
            Self::OtherHistory(_) => "history".to_owned(),
            Self::OwnDocument { .. } => "own_document".to_owned(),
            Self::LeaseLost => "lease".to_owned(),
            Self::Interrupted => "interrupted".to_owned(),
            Self::PhaseChanged => "phase".to_owned(),
        }
    }
}

/// What a refused statement means (the `code` inside `writeErrors`).
#[must_use]
pub(crate) fn refusal(code: i32) -> Option<Reason> {
    match code {
        121 => Some(Reason::RefusedByValidation),
        16755 => Some(Reason::RefusedByGeoIndex),
        10334 | 17419 | 17420 => Some(Reason::TooLarge),
        11000 | 11001 => Some(Reason::DuplicateOffer),
        code if PASSING.contains(&code) || UNAUTHORIZED.contains(&code) => None,
        _ => Some(Reason::RefusedByServer),
    }
}

/// Network errors, elections, shutdowns, interruptions: tried again, they pass (server source,
/// `error_codes.yml`, the categories `RetriableError`, `NotPrimaryError`, `Interruption`).
const PASSING: [i32; 38] = [
    6, 7, 24, 43, 46, 50, 63, 64, 79, 89, 91, 100, 112, 133, 134, 150, 175, 189, 202, 225, 237, 246, 251, 262, 290,
    317, 365, 462, 9001, 10107, 11600, 11601, 11602, 13388, 13435, 13436, 14031, 50915,
];
/// The history is gone (spec 03): `ChangeStreamHistoryLost`, `CappedPositionLost`, `InvalidResumeToken`; or the token is
/// of another one, `ChangeStreamFatalError`: a token is only used with the pipeline that it came from.
const POSITION_LOST: [i32; 4] = [286, 136, 260, 280];
/// `Unauthorized`, `AuthenticationFailed`, `ReauthenticationRequired`, `AtlasError` (of its proxy: a login or a quota).
const UNAUTHORIZED: [i32; 4] = [13, 18, 391, 8_000];

fn cursor_directive(error: &MongoError) -> Directive {
    match command_code(error) {
        Some(code) if POSITION_LOST.contains(&code) || is_garbled_token(code) => Directive::Resync,
        _ if error.contains_label(RESUMABLE_CHANGE_STREAM_ERROR) => Directive::Reopen,
        Some(code) if UNAUTHORIZED.contains(&code) => Directive::RetryUnready,
        Some(code) if PASSING.contains(&code) => Directive::Reopen,
        // `BSONObjectTooLarge` (10334) for one: about the next event, until it fails alike behind that too.
        Some(_) => Directive::PassOver,
        None if is_unreadable_reply(error) => Directive::PassOver,
        None => passing_kind(error, Directive::Reopen),
    }
}

fn is_unreadable_reply(error: &MongoError) -> bool {
    use ErrorKind::{Bson, BsonDeserialization, InvalidResponse};
    matches!(&*error.kind, InvalidResponse { .. } | Bson(_) | BsonDeserialization(_))
}

/// The server's many ways to say that a token is garbled (server source, `resume_token.cpp`,
/// `key_string.cpp`; those up to 51057 were met on a MongoDB 6.0 that was sent random ones).
fn is_garbled_token(code: i32) -> bool {
    matches!(
        code,
        9 | 15
            | 207
            | 31_209
            | 40_646..=40_649
            | 50_615
            | 50_788
            | 50_793..=50_796
            | 50_810..=50_833
            | 50_854
            | 50_855
            | 50_870
            | 50_872
            | 51_055..=51_057
            | 6_189_500..=6_189_505
            | 7_182_501
    )
}

fn command_directive(error: &MongoError) -> Directive {
    match command_code(error) {
        _ if error.contains_label(RETRYABLE_WRITE_ERROR) => Directive::Retry,
        Some(code) if PASSING.contains(&code) => Directive::Retry,
        Some(_) => Directive::RetryUnready,
        None => passing_kind(error, Directive::Retry),
    }
}

/// Errors without a server code: the network passes, a refused login needs an operator.
fn passing_kind(error: &MongoError, passing: Directive) -> Directive {
    match &*error.kind {
        ErrorKind::Authentication { .. } | ErrorKind::InvalidTlsConfig { .. } => Directive::RetryUnready,
        _ => passing,
    }
}

/// The code of a command that the server refused.
#[must_use]
pub(crate) fn command_code(error: &MongoError) -> Option<i32> {
    match &*error.kind {
        ErrorKind::Command(command) => Some(command.code),
        _ => None,
    }
}

/// A driver error in words, without the server's message: that may quote a document.
#[must_use]
pub(crate) fn describe(error: &MongoError) -> String {
    match &*error.kind {
        ErrorKind::Command(command) => format!("{} (code {})", command.code_name, command.code),
        ErrorKind::Io(error) => format!("network: {}", error.kind()),
        ErrorKind::ServerSelection { message, .. } => no_server(message),
        ErrorKind::Authentication { message, .. } => message.clone(),
        ErrorKind::InvalidArgument { message, .. } | ErrorKind::InvalidTlsConfig { message, .. } => message.clone(),
        ErrorKind::DnsResolve { message, .. } | ErrorKind::IncompatibleServer { message, .. } => message.clone(),
        _ => kind_name(error).to_owned(),
    }
}

/// The driver's message dumps its view of the topology; a person wants to know who did not answer and why.
fn no_server(message: &str) -> String {
    let until = |rest: &str, end: &str| rest.split(end).next().unwrap_or(rest).to_owned();
    let addresses: Vec<String> = message.split("Address: ").skip(1).map(|rest| until(rest, ",")).collect();
    let reason = message.split_once("I/O error: ").map(|(_, rest)| until(rest, ", labels"));
    let place = if addresses.is_empty() { String::new() } else { format!(" at {}", addresses.join(", ")) };
    let reason = certificate(message).map(str::to_owned).or(reason);
    let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    format!("no server answered{place}{reason}")
}

/// What is wrong with the server's certificate, where that is the reason (the words of rustls).
fn certificate(message: &str) -> Option<&'static str> {
    let (_, reason) = message.split_once("invalid peer certificate: ")?;
    let begins = |words: &[&str]| words.iter().any(|word| reason.starts_with(word));
    Some(if begins(&["UnknownIssuer", "BadSignature"]) {
        "its certificate is from an authority that this machine does not trust: see tlsCAFile in mongodb.uri"
    } else if begins(&["NotValidForName", "certificate not valid for name"]) {
        "the certificate is for another name than the one in mongodb.uri"
    } else if begins(&["Expired", "certificate expired"]) {
        "the certificate has expired, by the clock of this machine"
    } else if begins(&["NotValidYet", "certificate not valid yet"]) {
        "the certificate is not valid yet, by the clock of this machine"
    } else {
        "its certificate is not valid"
    })
}

fn kind_name(error: &MongoError) -> &'static str {
    match &*error.kind {
        ErrorKind::Io(_) => "network",
        ErrorKind::ConnectionPoolCleared { .. } => "connections_closed",
        ErrorKind::ServerSelection { .. } => "no_server",
        ErrorKind::Authentication { .. } => "authentication",
        ErrorKind::Command(_) => "command",
        _ => "driver",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_documents_become_dead_letters_and_passing_failures_do_not() {
        assert_eq!(refusal(121), Some(Reason::RefusedByValidation));
        assert_eq!(refusal(16755), Some(Reason::RefusedByGeoIndex));
        assert_eq!(refusal(10334), Some(Reason::TooLarge));
        assert_eq!(refusal(11000), Some(Reason::DuplicateOffer));
        assert_eq!(refusal(2), Some(Reason::RefusedByServer));
        for code in [91, 189, 10107, 11600, 11602, 43, 50, 112, 13] {
            assert_eq!(refusal(code), None, "{code}");
        }
    }

    #[test]
    fn a_missing_server_is_told_without_the_drivers_topology() {
        let message = "Server selection timeout: Topology: { Servers: [ { Address: host:1, Type: Unknown, Error: Kind: \
            I/O error: Connection refused (os error 111), labels: {} } ] }";
        assert_eq!(no_server(message), "no server answered at host:1 (Connection refused (os error 111))");
        assert_eq!(no_server("No available servers."), "no server answered");
    }

    #[test]
    fn a_lost_lease_stops_and_a_stalled_stream_is_opened_again() {
        assert_eq!(Failure::LeaseLost.directive(), Directive::Stop);
        assert_eq!(Failure::Stalled.directive(), Directive::Reopen);
        assert_eq!(Failure::WriteConcern(64).directive(), Directive::Retry);
    }
}
