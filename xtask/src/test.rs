//! `cargo xtask test`: starts one MongoDB for all test processes, runs the test runner, and returns its exit code.

use std::process::{Command, ExitCode, Stdio};

use xtask::mongod::{TEST_URI_VARIABLE, TestServer};

use crate::Outcome;
use xtask::cargo::cargo;

pub(crate) fn run(arguments: &[String]) -> Outcome {
    let server = TestServer::start()?;
    let has_nextest = cargo(&["nextest", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status()?.success();
    let runner: &[&str] = if has_nextest { &["nextest", "run", "--workspace"] } else { &["test", "--workspace"] };
    let mut code = on(&server, cargo(runner).args(arguments))?;
    // nextest runs no documentation tests. With arguments, only some of the other tests are wanted.
    if code == 0 && has_nextest && arguments.is_empty() {
        code = on(&server, &mut cargo(&["test", "--doc", "--workspace"]))?;
    }
    Ok(ExitCode::from(code))
}

/// Runs one test of the service by its name, without a time limit and with its output. `variables` are its environment.
pub(crate) fn one(name: &str, variables: &[(&str, String)]) -> Result<u8, Box<dyn std::error::Error>> {
    let server = TestServer::start()?;
    // nextest would end a test that takes long. The whole workspace, so that the dependencies are those of the tests.
    let mut command = cargo(&["test", "--workspace", "--test", "main", name, "--", "--nocapture"]);
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    Ok(on(&server, &mut command)?)
}

/// Runs the checks of the protocol with the larger bounds, one after another and with their output.
pub(crate) fn model() -> Outcome {
    let mut command = cargo(&["test", "--package", "model", "--", "--nocapture", "--test-threads", "1"]);
    let status = command.env("STREAM_PROCESSOR_MODEL", "long").status()?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

fn on(server: &TestServer, command: &mut Command) -> Result<u8, std::io::Error> {
    // Tests must not touch the user's database.
    let command = command.env_remove("MONGODB_URI").env_remove("MONGODB_DATABASE");
    // Many tests wait most of their time: for the end of a lease, for a server that is away. So two more of them run at once
    // than there are processors.
    let threads = std::thread::available_parallelism().map_or(2, usize::from) + 2;
    for variable in ["RUST_TEST_THREADS", "NEXTEST_TEST_THREADS"] {
        if std::env::var_os(variable).is_none() {
            command.env(variable, threads.to_string());
        }
    }
    let status = command.env(TEST_URI_VARIABLE, server.uri()).status()?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
