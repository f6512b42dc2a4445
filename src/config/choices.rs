//! The settings that are one of a few words. The words stand here once: the table of keys, the check
//! and the typed settings all take them from these enums.

/// An enum whose variants are the words of a setting.
pub trait Choice: Sized {
    /// The words, in the order of the documentation.
    const WORDS: &'static [&'static str];

    /// The variant of a word, if it is one.
    fn from_word(word: &str) -> Option<Self>;
}

macro_rules! choice {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$doc])* $variant),+
        }

        impl $name {
            /// The word of the configuration.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }
        }

        impl Choice for $name {
            const WORDS: &'static [&'static str] = &[$($word),+];

            fn from_word(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

choice! {
    /// `environment`: what kind of deployment this is.
    Environment {
        /// A laptop or a test.
        Development = "development",
        /// A rehearsal of production.
        Staging = "staging",
        /// The real thing; `obfuscate` is refused (spec 05).
        Production = "production",
    }
}

choice! {
    /// `stream.on_history_lost`: what to do when the token fell off the oplog (spec 03).
    OnHistoryLost {
        /// Stream on from the current cluster time and touch every recruiter.
        Resync = "resync",
        /// Stop, not ready, and wait for a person.
        Halt = "halt",
    }
}

choice! {
    /// `tokens.store`: where the checkpoint is kept (spec 03).
    TokenStoreKind {
        /// In `stream_processor_state`.
        Mongodb = "mongodb",
        /// As files in `tokens.directory`.
        Files = "files",
    }
}

choice! {
    /// `phase.initial`: who is the authority (spec 04).
    Phase {
        /// `recruiters` is the authority.
        Sync = "sync",
        /// Both are; the newest wins.
        DualWrite = "dual-write",
        /// `jobs_partners` is; the stream compares and writes nothing.
        Shadow = "shadow",
        /// `jobs_partners` is; the recruiters stream is closed.
        Retired = "retired",
    }
}

choice! {
    /// `users.on_deactivated`: what a user's last status `DESACTIVE` does (spec 03).
    OnUserDeactivated {
        /// Nothing; it is only counted.
        Ignore = "ignore",
        /// The user's offers are cancelled.
        CancelOffers = "cancel-offers",
    }
}

choice! {
    /// `log.format`: how log lines look.
    LogFormat {
        /// Pretty on a terminal, JSON elsewhere.
        Auto = "auto",
        /// One JSON object per line.
        Json = "json",
        /// Text for people.
        Pretty = "pretty",
    }
}
