//! Finds the providers that a script can delegate to.
//! Takes the environment and the configuration; returns provider rows in the daemon's own form, and resolves a name to
//! one.

use std::{collections::BTreeMap, path::Path};

use jiff::Timestamp;

use crate::{
    cli::Failure,
    config::{Config, Provider, ProviderKind, load::load, paths},
    daemon::setup,
    model::{
        ids::ProviderName,
        provider::Delegation,
        route::{Route, Rule, route},
        task::TaskSpec,
    },
    sys::providers::{HttpProviders, Pace, SECUTOOLS_KEYS},
};

use super::args::Cli;

/// Where the job server is; the first that is set counts.
const URLS: [&str; 2] = ["CCL_SECUTOOLS_MOCK_URL", "CCL_SECUTOOLS_URL"];

pub struct Servers {
    rows: BTreeMap<ProviderName, Provider>,
    delegation: Delegation,
}

impl Servers {
    /// The environment's server, else the configuration's providers, else none: every task is local.
    pub fn find(cli: &Cli) -> Result<Self, Failure> {
        let env = &paths::process_env;
        let set = |name: &&str| env(name).is_some_and(|value| !value.is_empty());
        let mut config = Config::default();
        if let Some(url) = URLS.iter().find(|name| set(name)).and_then(|name| env(name)) {
            let Some(url) = url.to_str().filter(|url| url.starts_with("http://") || url.starts_with("https://")) else {
                return Err(Failure::Failed(
                    "the job server's address does not begin with https:// or http://".to_owned(),
                ));
            };
            let name =
                ProviderName::parse(ProviderKind::Secutools.name()).map_err(|e| Failure::Failed(e.to_string()))?;
            let row = Provider { url: Some(url.to_owned()), ..Provider::new(ProviderKind::Secutools) };
            config.providers.insert(name, row);
        } else {
            let exists = |path: &Path| path.exists();
            let file = cli.config.clone().unwrap_or_else(|| paths::config_file(env, &exists));
            if cli.config.is_some() || exists(&file) {
                config = load(&file, env).map_err(|error| Failure::Failed(error.to_string()))?.config;
            }
            if config.providers.is_empty() && SECUTOOLS_KEYS.iter().any(set) {
                let text = "there is a key for a job server, and its address is not known: set CCL_SECUTOOLS_URL, or \
                            configure a provider";
                return Err(Failure::Failed(text.to_owned()));
            }
        }
        let delegation = setup::delegation(&config, Timestamp::now());
        Ok(Self { rows: config.providers.into_iter().collect(), delegation })
    }

    /// Where the task goes by the rules; with `provider` to that one, whatever the task says.
    pub fn route(&self, spec: &TaskSpec, provider: Option<&str>) -> Route {
        let Some(word) = provider else { return route(spec, None, &self.delegation) };
        let spec = TaskSpec {
            preferred_ai: Some(word.to_owned()),
            allow_delegation: true,
            needs_claude_code: false,
            ..spec.clone()
        };
        route(&spec, None, &self.delegation)
    }

    /// The name by which scripts know where a task goes.
    pub fn word(route: &Route) -> &str {
        match &route.rule {
            Rule::Preferred(word) => word,
            Rule::Auto(_) => route.chain.first().map_or(crate::model::route::LOCAL, |first| first.as_str()),
            Rule::Off
            | Rule::Wished
            | Rule::NeedsClaudeCode
            | Rule::PrefersClaudeCode
            | Rule::NotAllowed
            | Rule::NoPreference
            | Rule::Unknown(_) => crate::model::route::LOCAL,
        }
    }

    /// Whether its jobs outlive the call that began them.
    pub fn keeps_jobs(&self, name: &ProviderName) -> bool {
        self.rows.get(name).is_some_and(|row| row.kind == ProviderKind::Secutools)
    }

    /// The job server with this name or value; the first without one.
    pub fn server(&self, word: Option<&str>) -> Result<ProviderName, Failure> {
        let means = |name: &ProviderName| {
            word.is_none_or(|word| self.delegation.get(name).is_some_and(|row| row.serves.iter().any(|w| w == word)))
        };
        let found = self.rows.keys().find(|name| self.keeps_jobs(name) && means(name));
        found.cloned().ok_or_else(|| {
            let which = word.map_or_else(|| "a job server".to_owned(), |word| format!("the job server {word:?}"));
            Failure::Failed(format!(
                "{which} is not known: set CCL_SECUTOOLS_URL, or configure a provider of kind secutools"
            ))
        })
    }

    /// Poll interval of a provider; 2 s, the default of `poll`, for one that isn't configured.
    pub fn poll(&self, name: &ProviderName) -> std::time::Duration {
        self.rows.get(name).map_or(std::time::Duration::from_secs(2), |row| row.poll)
    }

    pub fn connect(&self) -> Result<HttpProviders, Failure> {
        HttpProviders::of(self.rows.clone(), Pace::default()).map_err(|error| Failure::Failed(error.to_string()))
    }
}
