//! Tests of the unprojection: its laws over generated and golden documents, examples, and the page of the team.

mod documents;
mod examples;
mod golden;
mod laws;
mod page;
