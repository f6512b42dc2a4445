//! Negative replies of a mail server: the step of the dialogue, the codes, and whom the reply is about: us, or one
//! recipient. Pure.

use std::fmt;

/// The steps of the dialogue, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SmtpStage {
    /// The greeting of the server, and its answer to `EHLO`.
    Greeting,
    /// `STARTTLS`
    Encryption,
    /// `AUTH`
    Login,
    /// `MAIL FROM`
    Sender,
    /// `RCPT TO`
    Recipient,
    /// `DATA`
    Data,
    /// The content and its end.
    Content,
}

/// A negative reply of the mail server: 4xx or 5xx.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SmtpReply {
    /// The step that the reply answers.
    pub stage: SmtpStage,
    /// The reply code, such as 550.
    pub code: u16,
    /// Subject and detail of the enhanced status code (RFC 3463), such as (1, 1) for 5.1.1; `None` without such a code.
    pub detail: Option<(u16, u16)>,
}

impl SmtpStage {
    /// The name in the log and in the outbox.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Greeting => "greeting",
            Self::Encryption => "encryption",
            Self::Login => "login",
            Self::Sender => "sender",
            Self::Recipient => "recipient",
            Self::Data => "data",
            Self::Content => "content",
        }
    }

    /// The step before this one, from the sender on; `None` where no step of the message itself comes before.
    #[must_use]
    pub fn before(self) -> Option<Self> {
        match self {
            Self::Greeting | Self::Encryption | Self::Login | Self::Sender => None,
            Self::Recipient => Some(Self::Sender),
            Self::Data => Some(Self::Recipient),
            Self::Content => Some(Self::Data),
        }
    }
}

impl SmtpReply {
    /// A reply with this code, whose text may begin with an enhanced status code. The class of an enhanced status code
    /// equals the first digit of the reply code (RFC 2034, section 4); other numbers are no such code.
    #[must_use]
    pub fn new(stage: SmtpStage, code: u16, words: &str) -> Self {
        let numbers: Vec<Option<u16>> = words
            .split_whitespace()
            .next()
            .into_iter()
            .flat_map(|word| word.split('.'))
            .map(|n| n.parse().ok())
            .collect();
        let detail = match numbers.as_slice() {
            [Some(class), Some(subject), Some(detail)] if *class == code / 100 => Some((*subject, *detail)),
            _ => None,
        };
        Self { stage, code, detail }
    }

    /// True where the reply is about us, whoever the recipient is: no recipient was named yet, the server asks for a
    /// login or refuses it, or the server refuses the address of the sender (5.1.7, 5.1.8).
    #[must_use]
    pub fn is_about_us(self) -> bool {
        self.stage <= SmtpStage::Sender || self.asks_for_login() || matches!(self.detail, Some((1, 7 | 8)))
    }

    /// True where the server asks for a login or refuses it (RFC 4954, section 6).
    #[must_use]
    pub fn asks_for_login(self) -> bool {
        matches!(self.code, 530 | 534 | 535 | 538)
    }

    /// True where the enhanced status code says that the mailbox does not exist, or takes no mail (RFC 3463, 3.2 and
    /// 3.3; RFC 7505).
    #[must_use]
    pub fn names_the_mailbox(self) -> bool {
        self.stage == SmtpStage::Recipient && matches!(self.detail, Some((1, 1 | 2 | 3 | 4 | 6 | 10) | (2, _)))
    }

    /// True where the only refusal of a run counts as one of the recipient: the reply names the mailbox, by the
    /// enhanced status code or, without such a code, by the reply code (RFC 5321, 4.2.3; RFC 7504).
    #[must_use]
    pub fn may_name_the_mailbox(self) -> bool {
        let by_code = self.stage == SmtpStage::Recipient && matches!(self.code, 550 | 551 | 553 | 556);
        self.names_the_mailbox() || (by_code && self.detail.is_none())
    }
}

/// The form for the log, such as `550 5.1.1 at recipient`.
impl fmt::Display for SmtpReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some((subject, detail)) = self.detail {
            write!(f, " {}.{subject}.{detail}", self.code / 100)?;
        }
        write!(f, " at {}", self.stage.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(stage: SmtpStage, words: &str) -> SmtpReply {
        let (code, words) = words.split_once(' ').unwrap();
        SmtpReply::new(stage, code.parse().unwrap(), words)
    }

    #[test]
    fn an_enhanced_status_code_is_read_where_it_is_one() {
        let detail = |words| at(SmtpStage::Recipient, words).detail;
        assert_eq!(detail("550 5.1.1 no such user"), Some((1, 1)));
        assert_eq!(detail("556 5.1.10"), Some((1, 10)));
        for other in
            ["550 no such user", "550 4.1.1 another class", "550 5.1", "550 5.1.1.1 four", "550 5.x.1 x", "550 "]
        {
            assert_eq!(detail(other), None, "{other}");
        }
        assert_eq!(at(SmtpStage::Data, "554 5.7.1 no").to_string(), "554 5.7.1 at data");
    }

    #[test]
    fn a_refusal_is_about_us_or_names_the_mailbox_or_neither() {
        use SmtpStage::{Content, Data, Recipient, Sender};
        for (stage, words, about_us, names, may_name) in [
            (SmtpStage::Greeting, "554 5.1.1 x", true, false, false),
            (SmtpStage::Login, "454 x", true, false, false),
            (Sender, "550 5.1.1 x", true, false, false),
            (Sender, "554 x", true, false, false),
            (Recipient, "530 5.7.0 x", true, false, false),
            (Recipient, "550 5.1.8 x", true, false, false),
            (Recipient, "550 5.1.1 x", false, true, true),
            (Recipient, "552 5.2.2 x", false, true, true),
            (Recipient, "550 x", false, false, true),
            (Recipient, "550 5.7.1 x", false, false, false),
            (Recipient, "554 x", false, false, false),
            (Data, "550 x", false, false, false),
            (Content, "550 5.1.1 x", false, false, false),
        ] {
            let reply = at(stage, words);
            let found = (reply.is_about_us(), reply.names_the_mailbox(), reply.may_name_the_mailbox());
            assert_eq!(found, (about_us, names, may_name), "{reply}");
        }
    }
}
