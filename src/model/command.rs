//! Control verbs: the verb tables and their parser.
//! Takes the text of one write and the file it went to; returns commands, or a refusal with its errno and a sentence.
//! The mount, the command line and all help texts use these tables.

use serde::{Deserialize, Serialize};

use crate::model::{
    ids::{AccountName, ProviderName, SessionName, TaskId, TaskKey},
    provider::Wish,
};

pub use crate::model::writer::Writer;

/// Longest write to a control file, in bytes (INTERFACE 3). Chosen: one page; the longest verb is a fraction of it.
pub const CONTROL_WRITE_MAX: usize = 4096;

/// Which control file a text was written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    Daemon,
    /// `accounts/active`: an account's name a line, as reading it gives.
    ActiveAccount,
    Task(TaskKey),
    Session(SessionName),
    /// Text for an agent; the whole of it is one message.
    Input(SessionName),
    /// tmux key names.
    Keys(SessionName),
}

/// One thing asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Pause,
    Resume,
    Rescan,
    Reload,
    /// To the named account, or to the best one there is.
    Swap(Option<AccountName>),
    ClearPartial,
    Clean(Clean),
    Cancel(TaskRef),
    Retry(TaskRef),
    Hold(TaskKey),
    Release(TaskKey),
    Priority(TaskKey, i32),
    /// To a session here, or to a provider.
    Wish(TaskKey, Wish),
    Interrupt(SessionName),
    Exit(SessionName),
    Restart(SessionName),
    Drain(SessionName),
    Undrain(SessionName),
    Input(SessionName, String),
    Keys(SessionName, Vec<String>),
}

impl Command {
    /// The verb, or the file that it is written to.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Rescan => "rescan",
            Self::Reload => "reload",
            Self::Swap(_) => "swap",
            Self::ClearPartial => "clear-partial",
            Self::Clean(_) => "clean",
            Self::Cancel(_) => "cancel",
            Self::Retry(_) => "retry",
            Self::Hold(_) => "hold",
            Self::Release(_) => "release",
            Self::Priority(..) => "priority",
            Self::Wish(_, Wish::Provider(_)) => "delegate",
            Self::Wish(_, Wish::Here) => "recall",
            Self::Interrupt(_) => "interrupt",
            Self::Exit(_) => "exit",
            Self::Restart(_) => "restart",
            Self::Drain(_) => "drain",
            Self::Undrain(_) => "undrain",
            Self::Input(..) => "input",
            Self::Keys(..) => "keys",
        }
    }
}

/// How old things are put away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clean {
    /// Lists only.
    DryRun,
    /// Done.
    Now,
}

/// A task as a person names it: `ID`, or `PROJECT:ID` where an id occurs twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskRef {
    Key(TaskKey),
    Text(String),
}

/// Something asked for that a service has to carry out; waits in the snapshot until it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Interrupt(SessionName),
    Exit(SessionName),
    Restart(SessionName),
    Input(SessionName, String),
    Keys(SessionName, Vec<String>),
    /// Put a finished task back into the inbox, in somebody's name.
    Retry(TaskKey, Option<Writer>),
    /// The same, of the project that has one of this name.
    RetryAnywhere(TaskId, Option<Writer>),
    /// Waits for the end of a swap.
    Swap,
    /// Put old results and logs away, or tell which.
    Clean(Clean),
    /// Read the configuration again.
    Reload,
}

impl Action {
    /// The session that carries it out.
    #[must_use]
    pub fn session(&self) -> Option<&SessionName> {
        match self {
            Self::Interrupt(s) | Self::Exit(s) | Self::Restart(s) | Self::Input(s, _) | Self::Keys(s, _) => Some(s),
            Self::Retry(..) | Self::RetryAnywhere(..) | Self::Swap | Self::Clean(_) | Self::Reload => None,
        }
    }

    /// In a person's words: which verb, or which file was written, and for what.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Interrupt(session) => format!("interrupt of {session}"),
            Self::Exit(session) => format!("exit of {session}"),
            Self::Restart(session) => format!("restart of {session}"),
            Self::Input(session, _) => format!("input for {session}"),
            Self::Keys(session, keys) => format!("keys {} for {session}", keys.join(" ")),
            Self::Retry(task, _) => format!("retry {task}"),
            Self::RetryAnywhere(task, _) => format!("retry {task}"),
            Self::Swap => "swap".to_owned(),
            Self::Clean(_) => "clean".to_owned(),
            Self::Reload => "reload".to_owned(),
        }
    }
}

/// Why something asked for was not done; each kind is one errno (INTERFACE 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusedKind {
    /// EINVAL
    Invalid,
    /// ENOENT
    NotFound,
    /// EBUSY
    Busy,
    /// ENXIO: nothing is there that could take it
    Unavailable,
    /// EAGAIN
    TryAgain,
    /// EIO: tried, and undone
    Failed,
    /// EUCLEAN: half done, and could not be undone
    Unclean,
    /// EPERM
    NotPermitted,
    /// EMSGSIZE
    TooLong,
    /// EDQUOT
    Full,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    pub kind: RefusedKind,
    pub message: String,
}

impl Refused {
    #[must_use]
    pub fn new(kind: RefusedKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// A row of a verb table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verb {
    pub name: &'static str,
    pub args: &'static str,
    pub help: &'static str,
}

const fn verb(name: &'static str, args: &'static str, help: &'static str) -> Verb {
    Verb { name, args, help }
}

/// Verbs of `control`.
pub const DAEMON_VERBS: &[Verb] = &[
    verb("swap", "[ACCOUNT]", "move to another account; the named one, or the best there is"),
    verb("pause", "", "stop dispatching; running tasks continue"),
    verb("resume", "", "dispatch again"),
    verb("rescan", "", "look at every queue directory and session now"),
    verb("reload", "", "read the configuration again; applies what can be applied live"),
    verb("cancel", "ID", "cancel a task; PROJECT:ID where an id occurs twice"),
    verb("retry", "ID", "run a failed or cancelled task again"),
    verb("clear-partial", "", "declare a partial swap corrected, after what `health` names was"),
    verb(
        "clean",
        "[dry-run]",
        "archive or remove what is older than `janitor` keeps it; dry-run only lists it in `events`",
    ),
];

/// Verbs of `tasks/<id>/control`.
pub const TASK_VERBS: &[Verb] = &[
    verb("cancel", "", "cancel it; an agent at work is stopped"),
    verb("retry", "", "run it again after it failed"),
    verb("hold", "", "do not dispatch it"),
    verb("release", "", "dispatch it after all"),
    verb("priority", "N", "-100 to 100, higher first"),
    verb("delegate", "[PROVIDER]", "send it to a provider; the named one, or the best there is"),
    verb("recall", "", "take it back from its provider, for a session here"),
];

/// Verbs of `sessions/<name>/control`.
pub const SESSION_VERBS: &[Verb] = &[
    verb("interrupt", "", "stop what the agent does, as its own interrupt key would"),
    verb("exit", "", "end the agent; a pool session that is needed starts again"),
    verb("restart", "", "end the agent and start a fresh one in the same window"),
    verb("drain", "", "finish the present task and take no other"),
    verb("undrain", "", "take tasks again"),
];

/// Reads one write. All lines are checked before any command is returned.
///
/// # Errors
/// When any line isn't a verb with its arguments; the message quotes the line.
pub fn parse(scope: &Scope, bytes: &[u8]) -> Result<Vec<Command>, Refused> {
    let limit = if matches!(scope, Scope::Input(_)) { 1024 * 1024 } else { CONTROL_WRITE_MAX };
    if bytes.len() > limit {
        return Err(Refused::new(
            RefusedKind::TooLong,
            format!("{} bytes in one write; at most {limit} are taken", bytes.len()),
        ));
    }
    let text = std::str::from_utf8(bytes).map_err(|e| {
        Refused::new(
            RefusedKind::Invalid,
            format!("not UTF-8 at byte {}: {:?}", e.valid_up_to(), String::from_utf8_lossy(bytes)),
        )
    })?;
    if let Scope::Input(session) = scope {
        return Ok(vec![Command::Input(session.clone(), text.to_owned())]);
    }
    if let Scope::Keys(session) = scope {
        return parse_keys(session, text);
    }
    if *scope == Scope::ActiveAccount {
        return parse_account(text);
    }
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| parse_line(scope, line)).collect()
}

fn parse_account(text: &str) -> Result<Vec<Command>, Refused> {
    let names = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let swap = |name| {
        let name = AccountName::parse(name).map_err(|bad| Refused::new(RefusedKind::Invalid, bad.to_string()))?;
        Ok(Command::Swap(Some(name)))
    };
    names.map(swap).collect()
}

fn parse_keys(session: &SessionName, text: &str) -> Result<Vec<Command>, Refused> {
    let keys: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    match keys.iter().find(|key| !is_key(key)) {
        Some(bad) => Err(Refused::new(
            RefusedKind::Invalid,
            format!("{bad:?} is not a tmux key name (Enter, Escape, C-c, Up, y …); text goes to `input`"),
        )),
        None => Ok(vec![Command::Keys(session.clone(), keys)]),
    }
}

/// tmux(1), "KEY BINDINGS": names of keys that are no character of their own.
const KEY_NAMES: &[&str] = &[
    "Enter", "Escape", "Tab", "BTab", "Space", "BSpace", "Up", "Down", "Left", "Right", "Home", "End", "PageUp",
    "PgUp", "PPage", "PageDown", "PgDn", "NPage", "IC", "Insert", "DC", "Delete", "F1", "F2", "F3", "F4", "F5", "F6",
    "F7", "F8", "F9", "F10", "F11", "F12",
];

/// A key as tmux names it: a character or a name, with `C-`, `M-`, `S-` or `^` in front. tmux types anything else letter by
/// letter, which is never what `keys` is for.
fn is_key(text: &str) -> bool {
    let mut key = text;
    while let Some(rest) =
        ["C-", "M-", "S-", "^"].iter().find_map(|prefix| key.strip_prefix(prefix)).filter(|r| !r.is_empty())
    {
        key = rest;
    }
    let mut characters = key.chars();
    match (characters.next(), characters.next()) {
        (Some(one), None) => !one.is_control(),
        (Some(_), Some(_)) => KEY_NAMES.contains(&key),
        (None, _) => false,
    }
}

fn table(scope: &Scope) -> &'static [Verb] {
    match scope {
        Scope::Daemon => DAEMON_VERBS,
        Scope::Task(_) => TASK_VERBS,
        Scope::Session(_) => SESSION_VERBS,
        Scope::ActiveAccount | Scope::Input(_) | Scope::Keys(_) => &[],
    }
}

fn parse_line(scope: &Scope, line: &str) -> Result<Command, Refused> {
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    let Some(verb) = table(scope).iter().find(|verb| verb.name == word) else {
        let known: Vec<&str> = table(scope).iter().map(|verb| verb.name).collect();
        return Err(Refused::new(
            RefusedKind::Invalid,
            format!("unknown verb in {line:?}; known: {}", known.join(" ")),
        ));
    };
    let usage = || {
        Refused::new(RefusedKind::Invalid, format!("wrong arguments in {line:?}; usage: {} {}", verb.name, verb.args))
    };
    let optional = verb.args.starts_with('[');
    if !optional && verb.args.is_empty() != rest.is_empty() {
        return Err(usage());
    }
    let task = || TaskRef::Text(rest.to_owned());
    Ok(match (scope, verb.name) {
        (Scope::Daemon, "swap") if rest.is_empty() => Command::Swap(None),
        (Scope::Daemon, "swap") => Command::Swap(Some(AccountName::parse(rest).map_err(|_| usage())?)),
        (Scope::Daemon, "clean") if rest.is_empty() => Command::Clean(Clean::Now),
        (Scope::Daemon, "clean") if rest == "dry-run" => Command::Clean(Clean::DryRun),
        (Scope::Daemon, "clear-partial") => Command::ClearPartial,
        (Scope::Daemon, "pause") => Command::Pause,
        (Scope::Daemon, "resume") => Command::Resume,
        (Scope::Daemon, "rescan") => Command::Rescan,
        (Scope::Daemon, "reload") => Command::Reload,
        (Scope::Daemon, "cancel") => Command::Cancel(task()),
        (Scope::Daemon, "retry") => Command::Retry(task()),
        (Scope::Task(key), "cancel") => Command::Cancel(TaskRef::Key(key.clone())),
        (Scope::Task(key), "retry") => Command::Retry(TaskRef::Key(key.clone())),
        (Scope::Task(key), "hold") => Command::Hold(key.clone()),
        (Scope::Task(key), "release") => Command::Release(key.clone()),
        (Scope::Task(key), "priority") => {
            let number =
                rest.parse::<i32>().ok().filter(|n| super::task::PRIORITY_RANGE.contains(n)).ok_or_else(usage)?;
            Command::Priority(key.clone(), number)
        }
        (Scope::Task(key), "delegate") if rest.is_empty() => Command::Wish(key.clone(), Wish::Provider(None)),
        (Scope::Task(key), "delegate") => {
            Command::Wish(key.clone(), Wish::Provider(Some(ProviderName::parse(rest).map_err(|_| usage())?)))
        }
        (Scope::Task(key), "recall") => Command::Wish(key.clone(), Wish::Here),
        (Scope::Session(name), "interrupt") => Command::Interrupt(name.clone()),
        (Scope::Session(name), "exit") => Command::Exit(name.clone()),
        (Scope::Session(name), "restart") => Command::Restart(name.clone()),
        (Scope::Session(name), "drain") => Command::Drain(name.clone()),
        (Scope::Session(name), "undrain") => Command::Undrain(name.clone()),
        (
            Scope::Daemon
            | Scope::ActiveAccount
            | Scope::Task(_)
            | Scope::Session(_)
            | Scope::Input(_)
            | Scope::Keys(_),
            _,
        ) => {
            return Err(usage());
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_of_the_tables_is_understood() {
        let key = TaskKey::parse("web:a").expect("a key");
        let session = SessionName::parse("s").expect("a name");
        for scope in [Scope::Daemon, Scope::Task(key), Scope::Session(session)] {
            for verb in table(&scope) {
                let bare = (verb.args.is_empty() || verb.args.starts_with('[')).then(|| verb.name.to_owned());
                let with = match verb.args {
                    "" => None,
                    "N" => Some(format!("{} 7", verb.name)),
                    "[dry-run]" => Some(format!("{} dry-run", verb.name)),
                    _ => Some(format!("{} x", verb.name)),
                };
                for line in bare.into_iter().chain(with) {
                    assert_eq!(parse(&scope, line.as_bytes()).map(|c| c.len()), Ok(1), "{scope:?} {line}");
                }
            }
        }
    }

    #[test]
    fn an_account_is_named_as_it_is_read() {
        let to = |name: &str| Command::Swap(Some(AccountName::parse(name).expect("a name")));
        let active = |text: &str| parse(&Scope::ActiveAccount, text.as_bytes());
        assert_eq!(active("compte2\n"), Ok(vec![to("compte2")]));
        assert_eq!(active("compte2\noa"), Ok(vec![to("compte2"), to("oa")]), "a line for each kind of agent");
        assert_eq!(active("\n"), Ok(vec![]));
        for bad in ["two words", "../x", "\u{1b}[2J", "swap compte2"] {
            assert_eq!(active(bad).map_err(|refused| refused.kind), Err(RefusedKind::Invalid), "{bad:?}");
        }
        assert_eq!(parse(&Scope::Daemon, b"swap"), Ok(vec![Command::Swap(None)]));
        assert_eq!(parse(&Scope::Daemon, b"swap compte2"), Ok(vec![to("compte2")]));
        assert!(parse(&Scope::Daemon, b"swap compte2 compte3").is_err());
    }

    #[test]
    fn one_bad_line_refuses_the_whole_write_and_is_quoted() {
        let refused = parse(&Scope::Daemon, b"pause\nexplode now\n").expect_err("refused");
        assert_eq!(refused.kind, RefusedKind::Invalid);
        assert!(refused.message.contains("explode now"), "{}", refused.message);
        assert_eq!(parse(&Scope::Daemon, b"\n# hi\n \n"), Ok(vec![]));
        assert_eq!(parse(&Scope::Daemon, &[b'x'; 5000]).map_err(|r| r.kind), Err(RefusedKind::TooLong));
        assert_eq!(parse(&Scope::Daemon, b"pause\xff").map_err(|r| r.kind), Err(RefusedKind::Invalid));
        assert_eq!(parse(&Scope::Daemon, b"pause now").map_err(|r| r.kind), Err(RefusedKind::Invalid));
    }

    #[test]
    fn keys_are_names_and_nothing_else() {
        let session = SessionName::parse("s").expect("a name");
        let keys = |text: &str| parse(&Scope::Keys(session.clone()), text.as_bytes());
        assert!(keys("C-c Enter y C-M-Left ^d ;\n").is_ok());
        for bad in ["-t", "a;b", "#{x}", "Enter\u{1b}", "hello", "C-hello"] {
            assert!(keys(bad).is_err(), "{bad:?}");
        }
    }
}
