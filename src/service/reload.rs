//! SIGHUP lets a running service read its configuration again. The level of the log takes effect at once. Every other key
//! needs a restart: the parts of the service take their settings when they begin, and half of a new configuration would be
//! worse than the old one. A key that has changed is named.

use std::io::IsTerminal as _;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::{self, Effective, Loaded, Sources};
use crate::error::Failure;
use crate::logging::LevelHandle;

/// The key that takes effect without a restart.
const LEVEL: &str = "log.level";

/// The configuration of this process, and what is needed to read it again. There is no `Debug`: the environment has secrets.
pub struct ConfigurationInForce {
    /// The file, the environment of this process, and the flags.
    pub sources: Sources,
    /// Every key with its value, secrets masked. A changed secret is therefore not noticed.
    pub effective: Vec<Effective>,
    pub level: LevelHandle,
}

impl ConfigurationInForce {
    /// Reads the configuration again at each SIGHUP, until `stop`. On a terminal, SIGHUP ends the process as before: the
    /// terminal is gone. SIGHUP is caught from this call on, and not only when the future runs.
    ///
    /// # Errors
    /// None.
    pub(super) fn read_again(mut self, stop: CancellationToken) -> impl Future<Output = Result<(), Failure>> + Send {
        let hangups = (!std::io::stderr().is_terminal()).then(|| signal(SignalKind::hangup()));
        async move {
            if let Some(Ok(mut hangups)) = hangups {
                while tokio::select! { () = stop.cancelled() => false, hangup = hangups.recv() => hangup.is_some() } {
                    self.read();
                }
            }
            stop.cancelled().await;
            Ok(())
        }
    }

    fn read(&mut self) {
        let Loaded { settings, effective } = match config::load(&self.sources) {
            Ok(loaded) => loaded,
            Err(faults) => {
                for fault in faults.0 {
                    warn!(error = %fault, "the configuration cannot be read again; the old one stays in force");
                }
                return;
            }
        };
        let changed = |row: &&Effective| self.effective.iter().any(|old| old.key == row.key && old.value != row.value);
        let keys: Vec<&str> = effective.iter().filter(changed).map(|row| row.key.as_str()).collect();
        let others: Vec<&str> = keys.iter().copied().filter(|key| *key != LEVEL).collect();
        let level = &settings.log.level;
        if keys.contains(&LEVEL) {
            match self.level.set(level) {
                Ok(_) => info!(level, "SIGHUP: the log has another level now"),
                Err(error) => {
                    warn!(%error, "the configuration cannot be read again; the old one stays in force");
                    return;
                }
            }
        }
        if !others.is_empty() {
            warn!(keys = others.join(", "), "SIGHUP: these keys have changed, and take effect at the next start");
        }
        if keys.is_empty() {
            info!("SIGHUP: the configuration was read again, and nothing has changed");
        }
        let read = effective.into_iter().find(|row| row.key == LEVEL);
        let in_force = self.effective.iter_mut().find(|row| row.key == LEVEL);
        if let (Some(read), Some(in_force)) = (read, in_force) {
            *in_force = read;
        }
    }
}
