//! E-mail (spec 05): what a message says is decided in `compose`, which is pure; `outbox` remembers which ones were sent, so
//! that a crash neither loses one nor sends it three times; `transport` hands them to a mail server or writes them to files.

pub(crate) mod compose;
pub(crate) mod delivery;
pub(crate) mod email;
pub(crate) mod mailer;
pub mod outbox;
pub(crate) mod reply;
pub(crate) mod sample;
mod smtp;
mod standing;
mod template_values;
pub(crate) mod transport;
