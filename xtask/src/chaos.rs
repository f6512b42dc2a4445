//! `cargo xtask chaos`: runs the stress test for a given time on a MongoDB of its own.

use std::process::ExitCode;

use crate::{Outcome, test};

/// What to do.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// For how long the load and the faults go on.
    #[arg(long, default_value_t = 10, value_name = "N")]
    minutes: u32,
    /// Which random load and faults.
    #[arg(long, default_value_t = 0, value_name = "SEED")]
    seed: u64,
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let variables = [
        ("STREAM_PROCESSOR_TEST_MINUTES", arguments.minutes.to_string()),
        ("STREAM_PROCESSOR_TEST_SEED", arguments.seed.to_string()),
    ];
    let code = test::one("random_operations::stress", &variables)?;
    Ok(ExitCode::from(code))
}
