//! E-mail (spec 05, "E-mail"): what is sent to whom, over real mail servers, whatever happens in between.

mod crashes;
mod folder;
mod independent_server;
mod introductions;
mod line;
mod links;
mod looks;
mod queries;
mod refusals;
mod reminders;
mod scripted_server;
mod told_stages;
mod unusual;
