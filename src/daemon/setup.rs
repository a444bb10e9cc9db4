//! Maps the configuration to options of the ports: tmux, agents, directories.
//! Takes a configuration and the environment; returns plain values. Starts nothing; detaches mounts that a killed
//! daemon left over queues.

use std::{
    collections::BTreeMap,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{RecvTimeoutError, channel},
    },
    time::Duration,
};

use jiff::Timestamp;

use crate::{
    agents::{AccountHome, AgentBookOptions},
    config::{self, Config, queue::QUEUE},
    daemon::fatal::Fatal,
    fs,
    linux::mark,
    model::{
        account::{Account, Standing},
        event::Counts,
        homes::HomeFault,
        ids::{AccountName, AgentName, ProviderName},
        limit::Usage,
        provider::{Counters, Delegation, Provider, ProviderStanding},
        snapshot::Project,
        task_file::sha256,
        writer::Mark,
    },
    sys::tmux::{Socket, TmuxOptions},
};

/// Name of our own tmux server, for `tmux -L`.
pub const SOCKET: &str = "claude-failover";
/// How long a project's disk may take to answer once at startup. Chosen: as `sys/disk/jobs.rs`.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// Which tmux server, and how.
#[must_use]
pub fn tmux(config: &Config) -> TmuxOptions {
    let socket = match &config.tmux.socket {
        config::Socket::Private => Socket::Name(SOCKET.to_owned()),
        config::Socket::Default => Socket::Default,
        config::Socket::Name(name) => Socket::Name(name.clone()),
        config::Socket::Path(path) => Socket::Path(path.clone()),
    };
    TmuxOptions {
        history_limit: config.tmux.history_limit,
        width: config.tmux.size.width,
        height: config.tmux.size.height,
        ..TmuxOptions::new(socket)
    }
}

/// The mark of our tmux server. Rights come from the configuration, so that identifies a daemon: another state
/// directory or mountpoint doesn't make it another one.
#[must_use]
pub fn mark(config_file: &Path) -> Mark {
    let file = config_file.canonicalize().unwrap_or_else(|_| config_file.to_owned());
    let hash = sha256(file.as_os_str().as_bytes());
    let id = u32::from_str_radix(&hash[..8], 16).unwrap_or_default();
    Mark::new(mark::read(std::process::id()).unwrap_or(u64::MAX), id)
}

/// The command that shows a session to a person.
#[must_use]
pub fn attach(config: &Config) -> String {
    match &config.tmux.socket {
        config::Socket::Private => format!("tmux -L {SOCKET} attach -t"),
        config::Socket::Default => "tmux attach -t".to_owned(),
        config::Socket::Name(name) => format!("tmux -L {name} attach -t"),
        config::Socket::Path(path) => format!("tmux -S {} attach -t", path.display()),
    }
}

/// The projects as the snapshot shows them.
#[must_use]
pub fn projects(config: &Config) -> Vec<Project> {
    let row =
        |row: &config::Project| Project { name: row.name.clone(), path: row.path.clone(), counts: Counts::default() };
    config.projects.iter().map(row).collect()
}

/// The accounts as the snapshot shows them. Of interchangeable ones the active one is the target of the operator's
/// link, else the first.
#[must_use]
pub fn accounts(config: &Config, linked: Option<&AccountName>, now: Timestamp) -> Vec<Account> {
    let mut accounts: Vec<Account> = Vec::new();
    for row in &config.accounts {
        let runs = |agent: &&AgentName| config.accounts_of(agent).any(|account| account.name == row.name);
        let mut account = Account {
            name: row.name.clone(),
            agent: row.agent.clone(),
            agents: config.agents.keys().filter(runs).cloned().collect(),
            home: row.home.clone(),
            active: false,
            active_since: now,
            standing: Standing::Usable,
            // What an agent said before the daemon knew the account may be old.
            believed_from: Timestamp::MIN,
            usage: Usage::default(),
        };
        let earlier = accounts.iter_mut().find(|known| known.is_like(&account) && known.active);
        account.active = earlier.is_none() || linked == Some(&account.name);
        if let Some(earlier) = earlier {
            earlier.active = !account.active;
        }
        accounts.push(account);
    }
    accounts
}

/// The providers as the snapshot shows them.
#[must_use]
pub fn delegation(config: &Config, now: Timestamp) -> Delegation {
    let row = |(name, row): (&ProviderName, &config::Provider)| {
        let words = row.kind.serves().iter().map(|word| (*word).to_owned()).chain(row.serves.iter().cloned());
        Provider {
            name: name.clone(),
            kind: row.kind.name(),
            serves: std::iter::once(name.to_string()).chain(words).collect(),
            fallback: row.fallback.clone(),
            max_jobs: row.max_jobs,
            standing: ProviderStanding::Usable,
            since: now,
            counters: Counters::default(),
        }
    };
    let auto = &config.delegation.auto;
    Delegation {
        providers: config.providers.iter().map(row).collect(),
        auto: [auto.low.clone(), auto.medium.clone(), auto.high.clone()],
    }
}

/// Why the accounts' homes keep the daemon from starting: all faults of all homes at once.
#[must_use]
pub fn complaint(faults: &[HomeFault]) -> Option<String> {
    if faults.is_empty() {
        return None;
    }
    let mut text = "the homes of the accounts are not ready for swaps, so nothing was started:\n".to_owned();
    for HomeFault { key, message, remedy, missing } in faults {
        text.push_str(&format!("  {key}: {message}\n"));
        if !missing {
            text.push_str(&format!("    -> {remedy}\n"));
        }
    }
    text.push_str(if faults.iter().all(|fault| fault.missing) {
        "run `claude-failover check --fix` once: it makes what is missing, and nothing else"
    } else {
        "nothing that is there is ever changed; what is only missing is made by `claude-failover check --fix`"
    });
    Some(text)
}

/// What is known of the agents.
///
/// # Errors
/// When an agent's rules file can't be used.
pub fn agents(
    config: &Config,
    state_dir: &Path,
    exe: &Path,
    mount: &Path,
    base_env: BTreeMap<String, String>,
) -> Result<AgentBookOptions, String> {
    for (name, row) in &config.agents {
        if let Some(problem) = row.kind.problem() {
            return Err(format!("the rules of the agent {name} can't be used:\n{problem}"));
        }
    }
    let home = |row: &config::Account| AccountHome { home: row.home.clone(), owned: row.owned, env: row.env.exposed() };
    Ok(AgentBookOptions {
        agents: config.agents.clone(),
        homes: config.accounts.iter().map(|row| (row.name.clone(), home(row))).collect(),
        state_dir: state_dir.to_owned(),
        exe: exe.to_owned(),
        mount: mount.to_owned(),
        base_env,
    })
}

/// What a new configuration changes that a running daemon can't take over; empty when everything applies.
#[must_use]
pub fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let parts = [
        ("projects", old.projects == new.projects),
        ("accounts", old.accounts == new.accounts),
        ("claude_link", old.claude_link == new.claude_link),
        ("shared", old.shared == new.shared),
        ("pool", old.pool == new.pool),
        ("agents", old.agents == new.agents),
        ("agent_by_words", old.agent_by_words == new.agent_by_words),
        ("tmux", old.tmux == new.tmux),
        ("mount", old.mount == new.mount),
        ("api", old.api == new.api),
        ("providers", old.providers == new.providers),
        ("delegation", old.delegation == new.delegation),
    ];
    parts.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
}

/// The running configuration with the live parts of a new one.
#[must_use]
pub fn apply_live(old: &Config, new: &Config) -> Arc<Config> {
    Arc::new(Config {
        dispatcher: new.dispatcher.clone(),
        watcher: new.watcher.clone(),
        quota: new.quota.clone(),
        switcher: new.switcher.clone(),
        lifecycle: new.lifecycle.clone(),
        control: new.control.clone(),
        notifications: new.notifications.clone(),
        janitor: new.janitor.clone(),
        ..old.clone()
    })
}

/// Detaches mounts that a killed daemon left over queues. Returns the future mountpoint as the kernel writes it.
///
/// # Errors
/// If a queue is covered by a mount that is still served, or one can't be detached.
pub fn uncover_queues(config: &Config, mountpoint: &Path) -> Result<PathBuf, Fatal> {
    for project in &config.projects {
        must_answer(&project.path)?;
        let dir = project.path.canonicalize().unwrap_or_else(|_| project.path.clone());
        let queue = dir.join(QUEUE);
        fs::uncover(&queue).map_err(|error| {
            Fatal(format!("a mount of claude-failover stands over the queue {}: {error}", queue.display()))
        })?;
        must_answer(&queue)?;
    }
    let parent = mountpoint.parent().and_then(|parent| parent.canonicalize().ok());
    Ok(parent.zip(mountpoint.file_name()).map_or_else(|| mountpoint.to_owned(), |(parent, name)| parent.join(name)))
}

/// A disk that answers nothing would have the start wait without a word. What it answers is no matter here.
fn must_answer(path: &Path) -> Result<(), Fatal> {
    let (say, said) = channel();
    let asked = path.to_owned();
    std::thread::spawn(move || say.send(asked.metadata().is_ok()));
    match said.recv_timeout(ANSWERS_WITHIN) {
        Err(RecvTimeoutError::Timeout) => Err(Fatal(format!(
            "the disk of {} has not answered for {} s; mend it, or take its project out of `projects`",
            path.display(),
            ANSWERS_WITHIN.as_secs()
        ))),
        Ok(_) | Err(RecvTimeoutError::Disconnected) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_of_the_operators_link_is_active_first() {
        let mut config = Config::default();
        for (name, agent) in [("a", "claude"), ("b", "claude"), ("c", "codex"), ("d", "codex")] {
            let mut row = config::Account::new(AccountName::parse(name).expect("a name"), format!("/{name}").into());
            row.agent = AgentName::parse(agent).expect("a name");
            config.accounts.push(row);
        }
        let active = |linked: Option<&str>| -> Vec<String> {
            let linked = linked.and_then(|name| AccountName::parse(name).ok());
            let accounts = accounts(&config, linked.as_ref(), Timestamp::UNIX_EPOCH);
            accounts.iter().filter(|account| account.active).map(|account| account.name.to_string()).collect()
        };
        assert_eq!(active(None), ["a", "c"]);
        assert_eq!(active(Some("a")), ["a", "c"]);
        assert_eq!(active(Some("b")), ["b", "c"]);
    }

    /// No change of the configuration is lost without a word.
    #[test]
    fn what_changes_is_taken_over_or_named() {
        const SECOND: Duration = Duration::from_secs(1);
        let changes: [fn(&mut Config); 20] = [
            |config| {
                config
                    .projects
                    .push(config::Project { name: "a".to_owned().try_into().expect("a name"), path: "/a".into() });
            },
            |config| config.accounts.push(config::Account::new(AccountName::parse("a").expect("a name"), "/a".into())),
            |config| config.claude_link = None,
            |config| config.shared.entries = Some(Vec::new()),
            |config| config.pool.autonomous.max += 1,
            |config| {
                let agent = config.pool.autonomous.agent.clone();
                config.agent_by_words.push(config::AgentByWords::new(vec!["w".to_owned()], agent));
            },
            |config| config.agents.clear(),
            |config| config.dispatcher.max_queued += 1,
            |config| config.watcher.idle_timeout += SECOND,
            |config| config.quota.confirm += 1,
            |config| config.switcher.save_grace += SECOND,
            |config| config.lifecycle.reconcile += SECOND,
            |config| config.tmux.history_limit += 1,
            |config| config.mount.enabled = false,
            |config| config.control.reply_within += SECOND,
            |config| config.api.listen = None,
            |config| {
                let name = ProviderName::parse("p").expect("a name");
                config.providers.insert(name, config::Provider::new(config::ProviderKind::Openai));
            },
            |config| config.delegation.auto.high.clear(),
            |config| config.notifications.per_hour += 1,
            |config| config.janitor.archive = false,
        ];
        assert_eq!(changes.len(), Config::KEYS.len());
        for (change, key) in changes.iter().zip(Config::KEYS) {
            let (old, mut new) = (Config::default(), Config::default());
            change(&mut new);
            assert_ne!(old, new, "{key}");
            let named = needs_restart(&old, &new);
            assert!(named == [*key] || (named.is_empty() && *apply_live(&old, &new) == new), "{key}: {named:?}");
        }
    }
}
