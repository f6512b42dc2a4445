//! `cargo xtask test`: one MongoDB for all test processes, then the test runner, whose exit code is passed on.

use std::process::{Command, ExitCode, Stdio};

use xtask::mongod::{TEST_URI_VARIABLE, TestServer};

use crate::Outcome;
use crate::cargo::cargo;

pub(crate) fn run(arguments: &[String]) -> Outcome {
    let server = TestServer::start()?;
    let has_nextest = cargo(&["nextest", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status()?.success();
    let runner: &[&str] = if has_nextest { &["nextest", "run", "--workspace"] } else { &["test", "--workspace"] };
    let mut code = on(&server, cargo(runner).args(arguments))?;
    // nextest leaves documentation tests out; arguments choose among the other tests.
    if code == 0 && has_nextest && arguments.is_empty() {
        code = on(&server, &mut cargo(&["test", "--doc", "--workspace"]))?;
    }
    Ok(ExitCode::from(code))
}

/// One test of the service, by its name, for as long as it takes and with its output; variables are set for it.
pub(crate) fn one(name: &str, variables: &[(&str, String)]) -> Result<u8, Box<dyn std::error::Error>> {
    let server = TestServer::start()?;
    // Not by nextest, which ends what takes long.
    let mut command = cargo(&["test", "--package", "stream-processor", "--test", "main", name, "--", "--nocapture"]);
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    Ok(on(&server, &mut command)?)
}

fn on(server: &TestServer, command: &mut Command) -> Result<u8, std::io::Error> {
    // The user's database is not for tests.
    let command = command.env_remove("MONGODB_URI").env_remove("MONGODB_DATABASE");
    let status = command.env(TEST_URI_VARIABLE, server.uri()).status()?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
