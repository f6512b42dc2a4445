//! The configuration (spec 06). Defaults, a TOML file, the environment and flags are merged in this order and checked
//! as a whole. The result is the plain struct [`Settings`], before anything else happens. Only this module reads
//! environment variables. The module opens no socket and keeps no global state.

mod check;
mod choices;
mod effective;
mod email_links;
mod fault;
mod foreign_writes;
pub(crate) mod headers;
mod key;
mod layers;
mod outside;
mod outside_settings;
mod settings;
mod table;
mod throttle;
mod ticker;
mod values;

pub use choices::{
    Choice, Environment, LogFormat, ManagedByChoice, OnHistoryLost, OnUserDeactivated, Phase, TokenStoreKind,
};
pub use effective::Effective;
pub use fault::{ConfigFault, ConfigFaults, Origin};
pub use foreign_writes::ForeignWritesSettings;
pub use key::{ConfigKey, Fallback, Section, ValueKind};
pub use layers::{Sources, process_environment};
pub use outside_settings::{
    DirectorySettings, LinksSettings, MailSettings, NoticesSettings, SentrySettings, SmtpSettings, TracesSettings,
};
pub use settings::{
    HealthSettings, HttpSettings, LeaseSettings, LogSettings, MongodbSettings, ObfuscateSettings, PhaseSettings,
    PrivacySettings, Settings, StreamSettings, TargetSettings, TokensSettings, UsersSettings, VerifySettings,
};
pub use table::{DEFAULT_LEVEL, sections};
pub use throttle::ThrottleSettings;
pub use ticker::{JobSettings, ReminderWindow, TickerSettings};

/// A valid configuration.
#[derive(Debug)]
pub struct Loaded {
    pub settings: Settings,
    /// Every key with its value and the origin of the value, secrets masked, for `config show`.
    pub effective: Vec<Effective>,
}

/// Reads and checks all layers (spec 06: defaults < file < environment < flags).
///
/// # Errors
/// All faults at once: unknown keys, impossible values, missing required keys, unreadable files.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigFaults> {
    let sections = sections();
    let (layers, faults) = layers::read(sources, &sections);
    let checked = check::check(layers, &sections, faults)?;
    let settings =
        Settings::from_checked(&checked, layers::colors_wanted(sources)).map_err(|fault| ConfigFaults(vec![fault]))?;
    let effective = effective::list(&checked, &sections);
    Ok(Loaded { settings, effective })
}

#[cfg(test)]
mod tests;
