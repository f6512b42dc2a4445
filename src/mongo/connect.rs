//! The connection to MongoDB.

use std::time::Duration;

use mongodb::Client;
use mongodb::options::{ClientOptions, ReadConcern, ReadPreference, SelectionCriteria, WriteConcern};
use secrecy::ExposeSecret as _;

use super::causal::CausalDatabase;
use super::primary_changes::PrimaryChanges;
use crate::config::Settings;
use crate::error::describe;
use crate::refusal::{Exit, Refusal};

/// Builds the client. Whatever the connection string says, reads go to the primary and show what a majority has, and
/// writes wait for a majority. A stale read would be projected as if it were current. A failover may undo what no
/// majority has.
pub(crate) async fn connect(settings: &Settings, primary_changes: &PrimaryChanges) -> Result<CausalDatabase, Refusal> {
    let uri = settings.mongodb.uri.expose_secret();
    let mut options = ClientOptions::parse(uri).await.map_err(|error| {
        // The driver's message is not shown: it may quote the connection string, and so a password.
        let advice = "expected mongodb://[user:password@]host:port/?options, special characters percent-encoded";
        let reason = match &*error.kind {
            mongodb::error::ErrorKind::DnsResolve { message, .. } => message.clone(),
            _ => "it cannot be parsed".to_owned(),
        };
        Refusal::new(Exit::Usage, format!("mongodb.uri: {reason}; {advice}"))
    })?;
    options.app_name.get_or_insert_with(|| "stream-processor".to_owned());
    options.selection_criteria = Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
    options.read_concern = Some(ReadConcern::majority());
    options.write_concern = Some(WriteConcern::majority());
    options.server_selection_timeout.get_or_insert(Duration::from_secs(10));
    options.connect_timeout.get_or_insert(Duration::from_secs(5));
    options.sdam_event_handler = Some(primary_changes.handler());
    let client = Client::with_options(options)
        .map_err(|error| Refusal::new(Exit::Usage, format!("mongodb.uri: {}", describe(&error))))?;
    Ok(CausalDatabase::new(client.database(&settings.mongodb.database)))
}
