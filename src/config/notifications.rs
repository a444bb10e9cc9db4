//! Decodes `notifications`: which notifications go to which channel.
//! Turns the file's nodes into typed settings and problems. Sends nothing and never shows a secret.

use std::net::IpAddr;

use reqwest::Url;
use serde::Serializer;

use super::{
    decode::{Context, Setting, scalar, text},
    node::Node,
    rows::{row, section},
    units::{FromEnv, FromFile, MASK, Secret, secret_of},
    values::one_secret,
};
use crate::model::notice::{Channel, NoticeKind};

section! {
    Notifications {
        /// The kinds that are sent.
        events: Vec<NoticeKind> = NoticeKind::ALL.to_vec();
        /// At most so many of one kind in an hour.
        per_hour: u32 = 20;
        telegram: Option<Telegram> = None;
        resend: Option<Resend> = None;
        webhook: Option<Webhook> = None;
    }
}

row! {
    /// A bot's chat (<https://core.telegram.org/bots/api#sendmessage>).
    Telegram {
        chat_id: String;
        --
        token_env: Option<FromEnv> = None;
        token_file: Option<FromFile> = None;
        url: String = "https://api.telegram.org".to_owned();
    }
}

row! {
    /// E-mail by Resend (<https://resend.com/docs/api-reference/emails/send-email>).
    Resend {
        from: String;
        to: Vec<String>;
        --
        key_env: Option<FromEnv> = None;
        key_file: Option<FromFile> = None;
        url: String = "https://api.resend.com".to_owned();
    }
}

section! {
    /// A POST to any address.
    Webhook {
        /// Some services put their secret into the address: it is masked wherever it is shown.
        url: Option<Secret> = None;
        url_env: Option<FromEnv> = None;
        url_file: Option<FromFile> = None;
        template: Template = Template::Json;
        /// Sent as a bearer token.
        key_env: Option<FromEnv> = None;
        key_file: Option<FromFile> = None;
    }
}

/// What a webhook is sent: JSON, from a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Template {
    /// Every field of the notification.
    Json,
    /// `text`, as Slack and what speaks like it take it.
    Slack,
    /// Written into the configuration.
    Inline(String),
    File {
        path: std::path::PathBuf,
        text: Result<String, String>,
    },
}

impl Template {
    /// # Errors
    /// In words, when its file can't be read.
    pub fn text(&self) -> Result<&str, &str> {
        match self {
            Self::Json => Ok(JSON),
            Self::Slack => Ok(SLACK),
            Self::Inline(text) => Ok(text),
            Self::File { text, .. } => text.as_deref().map_err(String::as_str),
        }
    }
}

/// Values are written as JSON, quotes included: templates are named `.json`.
const JSON: &str = r#"{"kind": {{ kind }}, "incident": {{ incident }}, "over": {{ over }}, "title": {{ title }}, "text": {{ text }}, "at": {{ at }}}"#;
/// With the three characters escaped that mean something there (<https://docs.slack.dev/messaging/formatting-message-text>).
const SLACK: &str =
    r#"{"text": {{ ("*" ~ title ~ "*\n" ~ text)|replace("&", "&amp;")|replace("<", "&lt;")|replace(">", "&gt;") }}}"#;

impl Setting for Template {
    fn decode(node: &Node, context: &mut Context<'_>) -> Option<Self> {
        match text(node, "json, slack, a path or a template", context)? {
            "json" => Some(Self::Json),
            "slack" => Some(Self::Slack),
            inline if inline.contains('{') => Some(Self::Inline(inline.to_owned())),
            _ => {
                let path = std::path::PathBuf::decode(node, context)?;
                let text =
                    std::fs::read_to_string(&path).map_err(|why| format!("can't read {}: {why}", path.display()));
                Some(Self::File { path, text })
            }
        }
    }
    fn show<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Json => s.serialize_str("json"),
            Self::Slack => s.serialize_str("slack"),
            Self::Inline(text) => s.serialize_str(text),
            Self::File { path, .. } => path.show(s),
        }
    }
}

impl Setting for NoticeKind {
    fn decode(node: &Node, context: &mut Context<'_>) -> Option<Self> {
        let names = Self::ALL.map(Self::name).join(", ");
        scalar(node, &format!("one of {names}"), context, |text| Self::ALL.into_iter().find(|kind| kind.name() == text))
    }
    fn show<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.name())
    }
}

impl Setting for Secret {
    fn decode(node: &Node, context: &mut Context<'_>) -> Option<Self> {
        text(node, "a text", context).map(Self::new).map(|secret| context.keep(secret))
    }
    fn show<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(MASK)
    }
}

impl Telegram {
    /// # Errors
    /// In words, when there is none.
    pub fn token(&self) -> Result<&Secret, &str> {
        secret_of(self.token_env.as_ref(), self.token_file.as_ref())?.ok_or("there is no token")
    }
}

impl Resend {
    /// # Errors
    /// In words, when there is none.
    pub fn key(&self) -> Result<&Secret, &str> {
        secret_of(self.key_env.as_ref(), self.key_file.as_ref())?.ok_or("there is no key")
    }
}

impl Webhook {
    /// # Errors
    /// In words, without the address, when there is none that can be used.
    pub fn address(&self) -> Result<Url, String> {
        let kept = secret_of(self.url_env.as_ref(), self.url_file.as_ref())?;
        let secret = self.url.as_ref().or(kept).ok_or("there is no address")?;
        let url = Url::parse(secret.expose().trim()).map_err(|why| format!("the address is none: {why}"))?;
        if !["http", "https"].contains(&url.scheme()) || !url.has_host() {
            return Err("the address must begin with https:// or http://".to_owned());
        }
        if self.key()?.is_some() && !may_carry_a_key(&url) {
            return Err("a key would go unencrypted over the network; give an https:// address".to_owned());
        }
        Ok(url)
    }

    /// # Errors
    /// In words, when one is named and isn't there.
    pub fn key(&self) -> Result<Option<&Secret>, &str> {
        secret_of(self.key_env.as_ref(), self.key_file.as_ref())
    }
}

impl Notifications {
    /// The channels that are configured.
    #[must_use]
    pub fn channels(&self) -> Vec<Channel> {
        let has = |channel: &Channel| match channel {
            Channel::Telegram => self.telegram.is_some(),
            Channel::Resend => self.resend.is_some(),
            Channel::Webhook => self.webhook.is_some(),
        };
        Channel::ALL.into_iter().filter(has).collect()
    }

    /// Why a configured channel can't send anything, where that is known beforehand.
    #[must_use]
    pub fn fault(&self, channel: Channel) -> Option<String> {
        let fault = match channel {
            Channel::Telegram => self.telegram.as_ref()?.token().err().map(str::to_owned),
            Channel::Resend => self.resend.as_ref()?.key().err().map(str::to_owned),
            Channel::Webhook => {
                let webhook = self.webhook.as_ref()?;
                let template = || webhook.template.text().err().map(str::to_owned);
                webhook.address().err().or_else(template)
            }
        };
        fault.map(|why| format!("notifications.{}: {why}", channel.name()))
    }
}

/// Only what is encrypted, or doesn't leave the machine.
fn may_carry_a_key(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    url.scheme() == "https" || host == "localhost" || address.is_some_and(|address| address.is_loopback())
}

/// What is wrong with values that are each right alone.
pub(super) fn meaning(settings: &Notifications, wrong: &mut impl FnMut(&str, String)) {
    if settings.per_hour == 0 {
        wrong("notifications.per_hour", "must be more than zero; `events: []` sends none".to_owned());
    }
    let mut service = |key: &str, url: &str| match Url::parse(url) {
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            wrong(key, "the address holds a secret, which would be shown; take it out".to_owned());
        }
        Ok(url) if may_carry_a_key(&url) => {}
        Ok(_) | Err(_) => wrong(key, "expected an address that begins with https://".to_owned()),
    };
    if let Some(row) = &settings.telegram {
        service("notifications.telegram.url", &row.url);
    }
    if let Some(row) = &settings.resend {
        service("notifications.resend.url", &row.url);
    }
    if let Some(row) = &settings.telegram {
        let pair = (row.token_env.as_ref(), row.token_file.as_ref());
        one_secret("notifications.telegram", "token", pair, true, wrong);
    }
    if let Some(row) = &settings.resend {
        one_secret("notifications.resend", "key", (row.key_env.as_ref(), row.key_file.as_ref()), true, wrong);
        if row.to.is_empty() {
            wrong("notifications.resend.to", "nobody stands here".to_owned());
        }
    }
    let Some(row) = &settings.webhook else { return };
    one_secret("notifications.webhook", "key", (row.key_env.as_ref(), row.key_file.as_ref()), false, wrong);
    match (row.url.is_some(), row.url_env.is_some(), row.url_file.is_some()) {
        (true, false, false) | (false, true, false) | (false, false, true) => {}
        (false, false, false) => {
            wrong("notifications.webhook", "`url`, `url_env` or `url_file` is missing here".to_owned());
        }
        (_, _, _) => wrong("notifications.webhook", "keep one of `url`, `url_env` and `url_file`".to_owned()),
    }
    if row.url.is_some()
        && let Err(why) = row.address()
    {
        wrong("notifications.webhook.url", why);
    }
    if let Ok(text) = row.template.text()
        && let Err(why) = minijinja::Environment::new().template_from_str(text)
    {
        wrong("notifications.webhook.template", format!("the template can't be read: {why}"));
    }
}
