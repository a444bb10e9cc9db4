//! `providers` and `delegation`: the model servers reached over HTTP, and which of them gets tasks that don't choose.
//! Types with their defaults. Holds where keys are found, never a key.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::Serializer;

use super::{
    decode::{Context, Setting, scalar},
    node::Node,
    rows::{row, section},
};
use crate::model::{
    ids::ProviderName,
    route::{CLAUDE_CODE, LOCAL},
};

row! {
    /// Somebody who does tasks over HTTP.
    Provider {
        kind: ProviderKind;
        --
        /// Where it is; by default the public address of its kind. `secutools` has none.
        url: Option<String> = None;
        model: Option<String> = None;
        /// The environment variable that holds the key.
        key_env: Option<String> = None;
        /// The file that holds the key.
        key_file: Option<PathBuf> = None;
        /// Words of `preferred_ai` that mean it, beside its name.
        serves: Vec<String> = Vec::new();
        /// Who takes its tasks while it can't.
        fallback: Vec<ProviderName> = Vec::new();
        /// Jobs at once.
        max_jobs: u32 = 8;
        /// How long a job may take.
        timeout: Duration = Duration::from_secs(3600);
        /// How often a job is asked after.
        poll: Duration = Duration::from_secs(2);
        /// Longest answer in tokens.
        max_tokens: u32 = 8192;
        /// A request sent twice with one idempotency key is one job: after a crash it is sent again.
        idempotent: bool = false;
        /// What tokens cost, where the provider doesn't tell the cost itself.
        price: Option<Price> = None;
        /// `secutools`: where jobs are submitted.
        submit_path: String = "/api/v1/jobs".to_owned();
        /// `secutools`: where a job is.
        job_path: String = "/api/v1/jobs/{id}".to_owned();
    }
}

row! {
    /// US dollars for a million tokens.
    Price {
        input: f64;
        output: f64;
        --
    }
}

section! {
    /// Tasks that leave the choice of a provider open.
    Delegation {
        auto: Auto = Auto::default();
    }
}

section! {
    /// Who takes tasks with `preferred_ai: auto`, by their `complexity_hint`: the first in the list that can. `local` is a
    /// session here. A task without a hint is a medium one.
    Auto {
        low: Vec<String> = Vec::new();
        medium: Vec<String> = Vec::new();
        high: Vec<String> = vec![LOCAL.to_owned()];
    }
}

/// What a provider's server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderKind {
    /// Jobs: submit, then ask (`doc/PROVIDERS.md`).
    Secutools,
    /// Chat completions of OpenAI and everything compatible.
    Openai,
    /// Anthropic's messages.
    Anthropic,
    /// Google's generateContent.
    Gemini,
}

impl ProviderKind {
    pub const ALL: [Self; 4] = [Self::Secutools, Self::Openai, Self::Anthropic, Self::Gemini];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Secutools => "secutools",
            Self::Openai => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
        }
    }

    /// Where its servers are, where there is one such place.
    #[must_use]
    pub fn public_url(self) -> Option<&'static str> {
        match self {
            Self::Secutools => None,
            Self::Openai => Some("https://api.openai.com/v1"),
            Self::Anthropic => Some("https://api.anthropic.com"),
            Self::Gemini => Some("https://generativelanguage.googleapis.com"),
        }
    }

    /// Words of `preferred_ai` that it serves by itself: a job server chooses among these on its side.
    #[must_use]
    pub fn serves(self) -> &'static [&'static str] {
        match self {
            Self::Secutools => &["gpu", "gemini", "claude-api", "auto"],
            Self::Openai | Self::Anthropic | Self::Gemini => &[],
        }
    }
}

impl Setting for ProviderKind {
    fn decode(node: &Node, context: &mut Context<'_>) -> Option<Self> {
        scalar(node, "one of secutools, openai, anthropic, gemini", context, |text| {
            Self::ALL.into_iter().find(|kind| kind.name() == text)
        })
    }
    fn show<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.name())
    }
}

impl Provider {
    /// Where its server is, without a slash at the end.
    #[must_use]
    pub fn base_url(&self) -> Option<&str> {
        self.url.as_deref().or(self.kind.public_url()).map(|url| url.trim_end_matches('/'))
    }
}

/// What is wrong with values that are each right alone.
pub(super) fn meaning(
    providers: &BTreeMap<ProviderName, Provider>,
    auto: &Auto,
    stands: &dyn Fn(&str) -> bool,
    wrong: &mut impl FnMut(&str, String),
) {
    // One that stands there and can't be read is known all the same.
    let known = |word: &str| word == LOCAL || stands(&format!("providers.{word}"));
    let names = || {
        let names: Vec<&str> = providers.keys().map(ProviderName::as_str).collect();
        if names.is_empty() { "there is none".to_owned() } else { format!("known: {}", names.join(", ")) }
    };
    for (name, provider) in providers {
        let at = |key: &str| format!("providers.{name}.{key}");
        let kind = provider.kind.name();
        match provider.base_url() {
            None => wrong(&at("kind"), format!("the provider `{name}` is of kind {kind} and needs a `url`")),
            Some(url) if !(url.starts_with("https://") || url.starts_with("http://")) => {
                wrong(&at("url"), format!("{url:?} does not begin with https:// or http://"));
            }
            Some(_) => {}
        }
        if provider.kind != ProviderKind::Secutools && provider.model.is_none() {
            wrong(&at("kind"), format!("the provider `{name}` is of kind {kind} and needs a `model`"));
        }
        if provider.key_env.is_some() && provider.key_file.is_some() {
            wrong(&at("key_file"), "give one of `key_env` and `key_file`".to_owned());
        }
        if name.as_str() == LOCAL || name.as_str() == CLAUDE_CODE {
            wrong(&at("kind"), format!("`{name}` means a session here and can't name a provider"));
        }
        if !provider.job_path.contains("{id}") {
            wrong(&at("job_path"), "has no {id} in it, where the job's id goes".to_owned());
        }
        if provider.max_jobs == 0 {
            wrong(&at("max_jobs"), "must be at least 1".to_owned());
        }
        for (n, next) in provider.fallback.iter().enumerate() {
            if !known(next.as_str()) || next.as_str() == LOCAL {
                wrong(&at(&format!("fallback[{n}]")), format!("no provider is called `{next}`; {}", names()));
            }
        }
    }
    for (hint, words) in [("low", &auto.low), ("medium", &auto.medium), ("high", &auto.high)] {
        for (n, word) in words.iter().enumerate().filter(|(_, word)| !known(word)) {
            wrong(&format!("delegation.auto.{hint}[{n}]"), format!("no provider is called `{word}`; {}", names()));
        }
    }
}
