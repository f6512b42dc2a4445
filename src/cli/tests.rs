//! Tests of the definition of the command line.

use clap::CommandFactory;

use super::*;
use crate::refusal::Exit;

fn assert_ends_with_an_example(command: &mut clap::Command) {
    let help = command.render_long_help().to_string();
    let example =
        help.rsplit_once("Example:\n  stream-processor ").or_else(|| help.rsplit_once("Example:\n  MONGODB_URI="));
    assert!(
        example.is_some_and(|(_, end)| !end.trim_end().contains('\n')),
        "{} has no example at its end:\n{help}",
        command.get_name()
    );
    for inner in command.get_subcommands_mut() {
        assert_ends_with_an_example(inner);
    }
}

#[test]
fn every_help_ends_with_an_example() {
    assert_ends_with_an_example(&mut Cli::command().term_width(500));
}

#[test]
fn the_definitions_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn a_flag_reaches_the_configuration_under_its_name() {
    let arguments = ["stream-processor", "run", "--listen", "127.0.0.1:0", "--database", "lba"];
    let cli = Cli::try_parse_from(arguments).unwrap();
    let flags: Vec<&str> = cli.sources().flags.iter().map(|(flag, _)| *flag).collect();
    assert_eq!(flags, ["--database", "--listen"]);
}

#[test]
fn the_connection_string_does_not_show_in_the_parsed_arguments() {
    let uri = "mongodb://someone:hunter2@host";
    let cli = Cli::try_parse_from(["stream-processor", "--mongodb-uri", uri, "run"]).unwrap();
    assert!(!format!("{cli:?}").contains("hunter2"));
}

#[test]
fn a_recruiter_id_that_is_none_is_a_usage_error() {
    let arguments = ["stream-processor", "backfill", "--recruiter", "12"];
    let error = Cli::try_parse_from(arguments).unwrap_err();
    assert_eq!(error.exit_code(), Exit::Usage as i32);
}
