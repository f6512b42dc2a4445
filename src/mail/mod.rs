//! E-mail (spec 05). `email_links` makes the links of a message, `expiration` its words about dates, `compose` its contents;
//! they are pure. `outbox` stores which messages were sent, so that a crash neither loses a message nor sends it three
//! times. `transport` hands messages to a mail server, or writes them to files. `mailer` sends the messages of one run.

pub(crate) mod compose;
pub(crate) mod delivery;
pub(crate) mod email;
pub(crate) mod email_links;
pub(crate) mod mailer;
pub mod outbox;
pub(crate) mod reply;
pub(crate) mod sample;
pub(crate) mod server_standing;
mod smtp;
mod template_values;
pub(crate) mod transport;
mod wording;
