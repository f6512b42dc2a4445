//! The one table of errors (spec 03, "One table of errors"): every failure has a directive and a sentence of advice for
//! the operator. This file only classifies failures. The code that meets a failure carries its directive out.
//! Nothing here shows values of documents, which messages of the server may quote.

use mongodb::error::{
    Error as MongoError, ErrorKind, RESUMABLE_CHANGE_STREAM_ERROR, RETRYABLE_WRITE_ERROR, WriteFailure,
};
use resume_tokens::StoreError;

use crate::model::dead_letter::Reason;
use resume_tokens::TokenError;

/// The server's code `ConversionFailure`. The fence makes a command fail with it that begins too late or too early. No
/// other statement of the service converts anything.
pub(crate) const FENCED: i32 = 241;

/// The server's code `DuplicateKey`: another document has this `_id`, or this value of a unique index.
pub(crate) const DUPLICATE_KEY: i32 = 11_000;

/// The reason why an event cannot be read. The service opened the stream itself, so the server has sent an event that
/// the manual does not describe.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// The event has no usable `_id`, which is its resume token.
    #[error("a change event has no usable resume token: {0}")]
    Token(#[from] TokenError),
    /// The event is not valid BSON.
    #[error("a change event is not valid BSON: {0}")]
    Damaged(String),
    /// The event has an `operationType` that the pipeline of the stream does not select.
    #[error("a change event has the unknown operation type `{0}`")]
    Operation(String),
    /// The event lacks a field that every such event has, for instance the key of the changed document.
    #[error("a change event has no usable `{0}`")]
    Incomplete(&'static str),
}

/// A failure of a read, a write or the stream. A document that cannot be projected or written is a dead letter instead.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The change stream could not be opened or read.
    #[error("the change stream failed: {}", describe(.0))]
    Cursor(#[source] MongoError),
    /// A read of documents failed.
    #[error("a read failed: {}", describe(.0))]
    Read(#[source] MongoError),
    /// A write of documents failed as a whole.
    #[error("a write failed: {}", describe(.0))]
    Write(#[source] MongoError),
    /// The server did not confirm that a majority has a write. The write may be applied or not.
    #[error("no majority acknowledged a write (code {0})")]
    WriteConcern(i32),
    /// A statement inside a write command failed for the time being. Or the server refused a statement that can have no
    /// dead letter: one of a transaction, or on a document of the service's own.
    #[error("a statement of a write failed (code {0})")]
    Statement(i32),
    /// A write was not answered in the time that the lease allows, and may be done or not. Or the server refused a
    /// write that began too late for the lease.
    #[error("the server did not answer a write in time")]
    Overdue,
    /// A checkpoint could not be saved or loaded.
    #[error(transparent)]
    Store(StoreError),
    /// The change stream has an event that the manual does not describe.
    #[error(transparent)]
    Event(#[from] EventError),
    /// A reply of the change stream lacks a field that every reply has.
    #[error("a reply of the change stream has no `{0}`")]
    Reply(&'static str),
    /// The server did not answer in the time limit of the change stream and a margin. Or no event came for so long, not
    /// even the canary's, that the server may be cut off.
    #[error("the change stream did not answer in time")]
    Stalled,
    /// The server refused an offer that was made for an older schema of the target.
    #[error("the schema of the target has changed")]
    SchemaChanged,
    /// Another member of the replica set is the primary now.
    #[error("the replica set has a new primary")]
    NewPrimary,
    /// The cluster times of the change stream went backwards, which must not happen.
    #[error("the cluster times of the change stream went backwards")]
    Backwards,
    /// A document of the service's own collections cannot be read.
    #[error("a document of `{collection}` has no usable `{field}`")]
    OwnDocument {
        collection: &'static str,
        /// The missing or unreadable field.
        field: &'static str,
    },
    /// The position is later than the server's own time: the server is another one, or was restored from a backup.
    #[error("the position of the change stream is ahead of the server's time")]
    Ahead,
    /// The checkpoint belongs to another history than that of the database. The text is the reason.
    #[error("the checkpoint is {0}")]
    OtherHistory(&'static str),
}

/// The reaction to a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Directive {
    /// Repeat the same after a growing delay. The checkpoint does not move.
    Retry,
    /// Stop being ready and retry slowly, because only an operator can help.
    RetryUnready,
    /// Open the cursor again after the last processed token.
    Reopen,
    /// Read again from the same position, event by event. If that fails the same way, the next event is at fault and is
    /// passed over. This leaves a gap, and a resync follows.
    PassOver,
    /// Give up the lost position, go on from now, and run a resync.
    Resync,
    /// End the process, or at least this leadership.
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

/// True if the server refused a write because it began too late for the lease.
fn is_fenced(error: &MongoError) -> bool {
    matches!(&*error.kind, ErrorKind::Write(WriteFailure::WriteError(error)) if error.code == FENCED)
}

impl Failure {
    /// Returns the reaction to this failure. This is the one table of errors.
    #[must_use]
    pub fn directive(&self) -> Directive {
        match self {
            Self::Cursor(error) => cursor_directive(error),
            Self::Read(error) | Self::Write(error) => command_directive(error),
            Self::WriteConcern(_) | Self::Statement(_) | Self::Overdue | Self::SchemaChanged => Directive::Retry,
            Self::Event(_) | Self::Reply(_) => Directive::PassOver,
            Self::Stalled | Self::NewPrimary => Directive::Reopen,
            Self::Store(StoreError::NewerTerm { .. }) | Self::Backwards => Directive::Stop,
            Self::Store(StoreError::Garbled { .. }) | Self::Ahead | Self::OtherHistory(_) => Directive::Resync,
            Self::Store(StoreError::Mongo(error)) => command_directive(error),
            Self::Store(_) | Self::OwnDocument { .. } => Directive::RetryUnready,
        }
    }

    /// Returns one sentence for the operator: the thing to do, or that there is nothing to do.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match (self, self.directive()) {
            (Self::Store(StoreError::Garbled { .. }), _) => {
                "the service cannot read the stored checkpoint, so the position is lost"
            }
            (Self::Store(StoreError::NewerTerm { .. }), _) => {
                "nothing to do: another instance leads, and this one stands by"
            }
            (Self::Store(StoreError::Io { .. }), _) => "check that tokens.directory exists, is writable and has space",
            (Self::Ahead | Self::OtherHistory(_), _) => {
                "this is another server, or it was restored from a backup, so the position is lost"
            }
            (Self::OwnDocument { .. }, _) => "correct the document or remove it",
            (_, Directive::Retry) => "nothing to do: this is retried until it succeeds",
            (_, Directive::RetryUnready) => {
                "check the privileges and credentials of the MongoDB user; this is retried every few seconds"
            }
            (_, Directive::Reopen) => "nothing to do: the stream is opened again after the last processed event",
            (_, Directive::PassOver) => {
                "an event that cannot be read is passed over, and a resync follows, unless stream.on_history_lost is \
                 \"halt\"; if the failure stays, look up its code in MongoDB's manual"
            }
            (_, Directive::Resync) => "the oplog does not have the position any more; consider a larger oplog",
            (_, Directive::Stop) => "read the log before this line, then restart the service",
        }
    }

    /// Returns the server's code, or a name if there is no code. Metrics use it as a label, so it has few values.
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
            Self::SchemaChanged => "schema_changed".to_owned(),
            Self::NewPrimary => "new_primary".to_owned(),
            Self::Overdue => "overdue".to_owned(),
            Self::Backwards => "backwards".to_owned(),
            Self::Ahead => "ahead".to_owned(),
            Self::OtherHistory(_) => "history".to_owned(),
            Self::OwnDocument { .. } => "own_document".to_owned(),
        }
    }

    /// The cause of a gap in the stream, for people: words, with the server's code where it has one. The gaps that 1.0.0
    /// stored have the code alone.
    #[must_use]
    pub(crate) fn gap_cause(&self) -> String {
        let code = self.code();
        let words = match code.as_str() {
            "286" | "136" => "the oplog no longer has the position",
            "260" | "50796" | "50811" => "the server cannot read the token of the position",
            "280" => "the position belongs to another stream",
            "10334" => "an event is too large to be delivered",
            "ahead" => "the position is ahead of the server's time",
            _ => "an event cannot be read",
        };
        if code.parse::<i32>().is_ok() { format!("{words} (code {code})") } else { format!("{words} ({code})") }
    }
}

/// Returns the reason for the dead letter of a refused statement, by its `code` inside `writeErrors`; `None` if the
/// statement can be tried again.
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

/// Codes of failures that pass: network errors, elections, shutdowns and interruptions (server source,
/// `error_codes.yml`, the categories `RetriableError`, `NotPrimaryError`, `Interruption`).
const PASSING: [i32; 38] = [
    6, 7, 24, 43, 46, 50, 63, 64, 79, 89, 91, 100, 112, 133, 134, 150, 175, 189, 202, 225, 237, 246, 251, 262, 290,
    317, 365, 462, 9001, 10107, 11600, 11601, 11602, 13388, 13435, 13436, 14031, 50915,
];
/// Codes of a lost position (spec 03). The history is gone: `ChangeStreamHistoryLost`, `CappedPositionLost`,
/// `InvalidResumeToken`. Or the token belongs to another history: `ChangeStreamFatalError`, because the service uses a
/// token only with the pipeline that it came from.
const POSITION_LOST: [i32; 4] = [286, 136, 260, 280];
/// Codes about logins and privileges: `Unauthorized`, `AuthenticationFailed`, `ReauthenticationRequired`, and
/// `AtlasError` (the proxy of Atlas complains about a login or a quota).
const UNAUTHORIZED: [i32; 4] = [13, 18, 391, 8_000];

fn cursor_directive(error: &MongoError) -> Directive {
    match command_code(error) {
        Some(code) if POSITION_LOST.contains(&code) || is_garbled_token(code) => Directive::Resync,
        _ if error.contains_label(RESUMABLE_CHANGE_STREAM_ERROR) => Directive::Reopen,
        Some(code) if UNAUTHORIZED.contains(&code) => Directive::RetryUnready,
        Some(code) if PASSING.contains(&code) => Directive::Reopen,
        // The next event is probably at fault, for instance with `BSONObjectTooLarge` (10334).
        Some(_) => Directive::PassOver,
        None if is_unreadable_reply(error) => Directive::PassOver,
        None => passing_kind(error, Directive::Reopen),
    }
}

fn is_unreadable_reply(error: &MongoError) -> bool {
    use ErrorKind::{Bson, BsonDeserialization, InvalidResponse};
    matches!(&*error.kind, InvalidResponse { .. } | Bson(_) | BsonDeserialization(_))
}

/// True for the codes by which the server says that a token is garbled (server source, `resume_token.cpp`,
/// `key_string.cpp`; a MongoDB 6.0 answered random tokens with the codes up to 51057).
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

/// Returns the directive of an error without a server code. A refused login needs an operator. Other errors pass, for
/// instance those of the network.
fn passing_kind(error: &MongoError, passing: Directive) -> Directive {
    match &*error.kind {
        ErrorKind::Authentication { .. } | ErrorKind::InvalidTlsConfig { .. } => Directive::RetryUnready,
        _ => passing,
    }
}

/// Returns the server's code of a refused command; `None` for other errors.
#[must_use]
pub(crate) fn command_code(error: &MongoError) -> Option<i32> {
    match &*error.kind {
        ErrorKind::Command(command) => Some(command.code),
        _ => None,
    }
}

/// Describes a driver error without the server's message, because the message may quote a document.
#[must_use]
pub(crate) fn describe(error: &MongoError) -> String {
    match &*error.kind {
        ErrorKind::Command(command) => format!("{} (code {})", command.code_name, command.code),
        ErrorKind::Io(error) => format!("network: {}", error.kind()),
        ErrorKind::ServerSelection { message, .. } => no_server(message),
        ErrorKind::Authentication { message, .. } => message.clone(),
        ErrorKind::InvalidArgument { message, .. } | ErrorKind::InvalidTlsConfig { message, .. } => message.clone(),
        ErrorKind::DnsResolve { message, .. } | ErrorKind::IncompatibleServer { message, .. } => message.clone(),
        ErrorKind::ConnectionPoolCleared { .. } => "its connections to a server that failed were closed".to_owned(),
        _ => "an error of the MongoDB driver".to_owned(),
    }
}

/// Shortens the driver's message about servers that did not answer to their addresses and the reason. The message
/// itself is a dump of the topology.
fn no_server(message: &str) -> String {
    let until = |rest: &str, end: &str| rest.split(end).next().unwrap_or(rest).to_owned();
    let addresses: Vec<String> = message.split("Address: ").skip(1).map(|rest| until(rest, ",")).collect();
    let reason = message.split_once("I/O error: ").map(|(_, rest)| until(rest, ", labels"));
    let place = if addresses.is_empty() { String::new() } else { format!(" at {}", addresses.join(", ")) };
    let reason = certificate(message).map(str::to_owned).or(reason);
    let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    format!("no server answered{place}{reason}")
}

/// Returns the fault of the server's certificate, by the words of rustls; `None` if the certificate is not the reason.
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
    fn a_stalled_stream_is_opened_again_and_an_unacknowledged_write_is_retried() {
        assert_eq!(Failure::Stalled.directive(), Directive::Reopen);
        assert_eq!(Failure::WriteConcern(64).directive(), Directive::Retry);
    }
}
