//! What the tests stand on: a database of their own, the golden documents, the program as a process, waiting.
//! Nothing here decides whether the product is right, but for the comparison of offers.
#![allow(dead_code, reason = "a tool of the tests may be ready before the first test that needs it")]

pub mod browser;
pub mod change_streams;
pub mod citations;
pub mod damaged;
pub mod database;
pub mod end;
pub mod evaluation;
pub mod failpoints;
pub mod fields;
pub mod golden;
pub mod imports;
pub mod mail_server;
pub mod mails;
pub mod offers;
pub mod processor;
pub mod proxy;
pub mod recruiters;
pub mod runs;
pub mod state;
pub mod ticking;
pub mod token_folder;
pub mod waiting;
pub mod web_server;
pub mod workload;
