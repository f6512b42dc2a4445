//! What the tests stand on: a database of their own, the golden documents, the program as a process, waiting.
//! Nothing here decides whether the product is right, but for the comparison of offers.
#![allow(dead_code, reason = "a tool of the tests may be ready before the first test that needs it")]

pub(crate) mod browser;
pub(crate) mod change_streams;
pub(crate) mod citations;
pub(crate) mod damaged;
pub(crate) mod database;
pub(crate) mod dead_letters;
pub(crate) mod documents;
pub(crate) mod dpkg;
pub(crate) mod elections;
pub(crate) mod end;
pub(crate) mod evaluation;
pub(crate) mod failpoints;
pub(crate) mod fields;
pub(crate) mod golden;
pub(crate) mod imports;
pub(crate) mod mail_server;
pub(crate) mod mails;
pub(crate) mod memory;
pub(crate) mod notify_socket;
pub(crate) mod offers;
pub(crate) mod platform;
pub(crate) mod processor;
pub(crate) mod proxy;
pub(crate) mod recruiters;
pub(crate) mod runs;
pub(crate) mod state;
pub(crate) mod terminal;
pub(crate) mod ticking;
pub(crate) mod token_folder;
pub(crate) mod waiting;
pub(crate) mod web_server;
pub(crate) mod workload;
