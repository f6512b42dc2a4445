//! Finds the fault of a connection string while the driver still looks for a server. The driver tries for its whole
//! patience and then names no reason. Some faults never pass: a wrong name of the replica set, an unknown host, a
//! certificate that is not trusted.

use std::time::Duration;

use bson::doc;
use futures::future::try_join_all;
use mongodb::Client;
use mongodb::error::{Error as MongoError, ErrorKind};
use mongodb::options::{ClientOptions, ServerAddress};
use secrecy::{ExposeSecret as _, SecretString};

use crate::error::describe;

/// The time that a server has for its first answer before the search for a fault begins.
const HEAD_START: Duration = Duration::from_millis(500);
/// The longest time for the answer of one address.
const PATIENCE: Duration = Duration::from_secs(1);

/// Waits until it is sure that no address of the connection string can be used, and returns the reason and the remedy.
/// Waits for ever if that is not sure: a server that is down may come back.
pub(crate) async fn fault(uri: &SecretString) -> String {
    tokio::time::sleep(HEAD_START).await;
    match faults(uri).await {
        Some(fault) => fault,
        None => std::future::pending().await,
    }
}

/// The fault of the first address, if every address has one.
async fn faults(uri: &SecretString) -> Option<String> {
    let options = ClientOptions::parse(uri.expose_secret()).await.ok()?;
    let addresses = options.hosts.clone().into_iter();
    let faults = addresses.map(|address| async { of_address(&options, address).await.ok_or(()) });
    try_join_all(faults).await.ok()?.into_iter().next()
}

async fn of_address(options: &ClientOptions, address: ServerAddress) -> Option<String> {
    let mut alone = options.clone();
    alone.hosts = vec![address.clone()];
    // A member of any replica set answers to a direct connection, and `hello` needs no user.
    (alone.direct_connection, alone.repl_set_name, alone.credential) = (Some(true), None, None);
    (alone.server_selection_timeout, alone.connect_timeout) = (Some(PATIENCE), Some(PATIENCE));
    let asking = async { Client::with_options(alone)?.database("admin").run_command(doc! { "hello": 1 }).await };
    match (asking.await, &options.repl_set_name) {
        (Ok(hello), Some(wanted)) => match hello.get_str("setName") {
            Ok(name) if name == wanted => None,
            Ok(name) => Some(format!(
                "mongodb.uri has replicaSet={wanted}, but {address} is a member of {name}; write replicaSet={name}"
            )),
            Err(_) => Some(format!(
                "mongodb.uri has replicaSet={wanted}, but {address} is no member of a replica set; start mongod with \
                 --replSet and run rs.initiate(), or correct mongodb.uri"
            )),
        },
        (Ok(_), None) => None,
        (Err(error), _) => remedy(&error).map(|remedy| format!("{}; {remedy}", describe(&error))),
    }
}

/// The remedy of an error that does not pass by itself; `None` for other errors.
fn remedy(error: &MongoError) -> Option<&'static str> {
    let ErrorKind::ServerSelection { message, .. } = &*error.kind else { return None };
    let has = |words: &[&str]| words.iter().any(|words| message.contains(words));
    if has(&["failed to lookup address"]) {
        Some("check the names of the hosts in mongodb.uri, and the DNS of this machine")
    } else if has(&["invalid peer certificate", "corrupt message", "tls handshake"]) {
        Some("check the TLS options in mongodb.uri, and the certificate of the server")
    } else {
        None
    }
}
