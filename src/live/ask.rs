//! Applies verbs to the world.
//! Takes one write to a control file; returns the numbers of requests that services still have to carry out.

use std::sync::Arc;

use jiff::Timestamp;

use super::world::{Refusal, World};
use crate::model::{
    account::{self, Account, AccountEvent},
    command::{self, Action, Command, Refused, RefusedKind, Scope, TaskRef, Writer},
    event::Event,
    ids::{AccountName, SessionName, TaskId, TaskKey},
    permits,
    provider::Wish,
    session::{Role, SessionEvent, SessionPhase, SessionRefusal},
    swap::{Cause, SwapEvent, SwapRefusal},
    task::{Hold, Phase, Status, TaskEvent},
    writer::By,
};

/// Reads and begins everything of one write, or nothing.
pub(super) fn carry_out(
    world: &mut World,
    scope: &Scope,
    text: &[u8],
    writer: Option<&Writer>,
    now: Timestamp,
) -> Result<Vec<u64>, Refused> {
    let commands = command::parse(scope, text)?;
    let mut requests = Vec::new();
    for command in commands {
        permitted(world, &command, writer)?;
        requests.extend(begin(world, command, writer, now)?);
    }
    Ok(requests)
}

/// Whether the writer may ask for it.
fn permitted(world: &World, command: &Command, writer: Option<&Writer>) -> Result<(), Refused> {
    let phase = |key: &TaskKey| world.snapshot.tasks.get(key).map(|task| &task.phase);
    let least = match command {
        // Sending it somewhere lets it go.
        Command::Wish(key, Wish::Provider(_))
            if matches!(phase(key), Some(Phase::Held(Hold::ByVerb | Hold::ChangedWhileWorking))) =>
        {
            By::Person
        }
        other => permits::least(other),
    };
    permits::may_ask(least, writer, command.word())?;
    if let Command::Release(key) = command
        && let Some(Phase::Held(hold @ Hold::Closed(_))) = phase(key)
    {
        return Err(Refused::new(RefusedKind::NotPermitted, hold.to_string()));
    }
    Ok(())
}

fn begin(world: &mut World, command: Command, writer: Option<&Writer>, now: Timestamp) -> Result<Option<u64>, Refused> {
    match command {
        Command::Pause | Command::Resume => {
            world.snapshot.paused = command == Command::Pause;
            Ok(None)
        }
        Command::Rescan => {
            world.snapshot.rescan += 1;
            Ok(None)
        }
        Command::Reload => Ok(Some(request(world, Action::Reload))),
        Command::Clean(how) => Ok(Some(request(world, Action::Clean(how)))),
        Command::Swap(to) => swap(world, to, now),
        Command::ClearPartial => {
            let none = || Refused::new(RefusedKind::NotFound, "no swap is half done");
            let partial = world.snapshot.swaps.last.clone().ok_or_else(none)?;
            apply(world, &Event::Swap { from: partial.from, event: SwapEvent::ClearPartial }, now).map_err(|_| none())
        }
        Command::Cancel(task) => {
            let key = resolve(world, &task)?;
            apply(world, &Event::Task(key, TaskEvent::Cancel), now)
        }
        Command::Retry(task) => retry(world, &task, writer),
        Command::Hold(key) => apply(world, &Event::Task(key, TaskEvent::Hold), now),
        Command::Release(key) => apply(world, &Event::Task(key, TaskEvent::Release), now),
        Command::Wish(key, wish) => self::wish(world, key, wish, now),
        Command::Priority(key, n) => apply(world, &Event::Task(key, TaskEvent::Priority(n)), now),
        Command::Drain(name) => apply(world, &Event::Session(name, SessionEvent::Drain(true)), now),
        Command::Undrain(name) => apply(world, &Event::Session(name, SessionEvent::Drain(false)), now),
        Command::Interrupt(name) => for_session(world, name, Action::Interrupt).map(Some),
        Command::Exit(name) => for_session(world, name, Action::Exit).map(Some),
        Command::Restart(name) => {
            let request = for_session(world, name.clone(), Action::Restart)?;
            apply(world, &Event::Session(name, SessionEvent::Forgiven), now)?;
            Ok(Some(request))
        }
        Command::Input(name, text) => for_session(world, name, |name| Action::Input(name, text)).map(Some),
        Command::Keys(name, keys) => for_session(world, name, |name| Action::Keys(name, keys)).map(Some),
    }
}

fn apply(world: &mut World, event: &Event, now: Timestamp) -> Result<Option<u64>, Refused> {
    world.apply(event, now).map(|()| None).map_err(|refusal| {
        let kind = match &refusal {
            Refusal::NoTask(_) | Refusal::NoSession(_) | Refusal::NoAccount(_) => RefusedKind::NotFound,
            Refusal::Swap(refusal) => match refusal {
                SwapRefusal::UnderWay { .. } | SwapRefusal::NotNow | SwapRefusal::Active(_) => RefusedKind::Busy,
                SwapRefusal::Partial { .. } => RefusedKind::Unclean,
                SwapRefusal::NoAccount(_) => RefusedKind::NotFound,
            },
            Refusal::Session(_, SessionRefusal::Dedicated(_)) => RefusedKind::NotPermitted,
            Refusal::Task(..) | Refusal::Session(..) => RefusedKind::Busy,
            Refusal::Unsaved(_) | Refusal::Stopped => RefusedKind::Failed,
        };
        Refused::new(kind, refusal.to_string())
    })
}

/// Sends a task somewhere, if there is such a place.
fn wish(world: &mut World, key: TaskKey, wish: Wish, now: Timestamp) -> Result<Option<u64>, Refused> {
    let delegation = &world.snapshot.delegation;
    match &wish {
        Wish::Provider(_) if !delegation.is_on() => {
            let text = "the configuration has no providers: delegation is off";
            return Err(Refused::new(RefusedKind::Unavailable, text));
        }
        Wish::Provider(Some(name)) if delegation.get(name).is_none() => {
            let known: Vec<&str> = delegation.providers.iter().map(|provider| provider.name.as_str()).collect();
            let text = format!("there is no provider {name}; there are: {}", known.join(", "));
            return Err(Refused::new(RefusedKind::NotFound, text));
        }
        Wish::Provider(_) | Wish::Here => {}
    }
    apply(world, &Event::Task(key, TaskEvent::Wish(wish)), now)
}

/// Begins a swap requested by a person. Neither cooldown nor a limit prevents it; both are reported.
fn swap(world: &mut World, to: Option<AccountName>, now: Timestamp) -> Result<Option<u64>, Refused> {
    let accounts = world.snapshot.accounts.clone();
    let target = match &to {
        Some(name) => accounts.iter().find(|account| account.name == *name),
        None => None,
    };
    let from = match (&to, target) {
        (Some(name), None) => {
            let known: Vec<&str> = accounts.iter().map(|account| account.name.as_str()).collect();
            let text = format!("there is no account {name}; there are: {}", known.join(", "));
            return Err(Refused::new(RefusedKind::NotFound, text));
        }
        (Some(_), Some(target)) => accounts.iter().find(|account| account.active && account.is_like(target)),
        // The accounts of the first row that has another beside it.
        (None, _) => accounts
            .iter()
            .find(|one| one.active && accounts.iter().any(|other| other.name != one.name && other.is_like(one))),
    };
    let Some(from) = from else {
        return Err(Refused::new(RefusedKind::NotFound, "the configuration has no second account to swap to"));
    };
    let target = match target {
        Some(target) => target,
        None => account::choose(&accounts, from, now).ok_or_else(|| nowhere_to_go(&accounts, from))?,
    };
    if !target.is_usable() {
        let why = "a person asked for it".to_owned();
        apply(world, &Event::Account(target.name.clone(), AccountEvent::Vouched { why }), now)?;
    }
    if target.name == from.name {
        return Ok(None);
    }
    let request = request(world, Action::Swap);
    let event = SwapEvent::Begin { to: target.name.clone(), cause: Cause::Person { request } };
    apply(world, &Event::Swap { from: from.name.clone(), event }, now)?;
    Ok(Some(request))
}

fn nowhere_to_go(accounts: &[Account], from: &Account) -> Refused {
    let next =
        accounts.iter().filter(|account| account.is_like(from)).filter_map(|a| Some((a.until()?, &a.name))).min();
    let when = next.map(|(until, name)| format!("; {name} is tried again at {until}")).unwrap_or_default();
    Refused::new(RefusedKind::TryAgain, format!("no other account can be used now{when}"))
}

fn resolve(world: &World, task: &TaskRef) -> Result<TaskKey, Refused> {
    let text = match task {
        TaskRef::Key(key) => return Ok(key.clone()),
        TaskRef::Text(text) => text,
    };
    let keys = world.snapshot.find_tasks(text.strip_suffix(".md").unwrap_or(text));
    match keys.as_slice() {
        [] => Err(Refused::new(RefusedKind::NotFound, format!("there is no task {text:?}; `ls tasks/` lists them"))),
        [key] => Ok(key.clone()),
        several => {
            let names: Vec<String> = several.iter().map(ToString::to_string).collect();
            Err(Refused::new(RefusedKind::Invalid, format!("{text:?} may be {}; name one", names.join(" or "))))
        }
    }
}

/// A finished task is found in memory, or by its name in `failed/` and `done/` by the service that carries this out.
fn retry(world: &mut World, task: &TaskRef, writer: Option<&Writer>) -> Result<Option<u64>, Refused> {
    let key = match (resolve(world, task), task) {
        (Ok(key), _) => key,
        (Err(refused), TaskRef::Text(text)) if refused.kind == RefusedKind::NotFound => {
            let name = text.strip_suffix(".md").unwrap_or(text);
            let known = |key: &TaskKey| world.snapshot.projects.iter().any(|project| project.name == key.project);
            match TaskKey::parse(name).filter(known) {
                Some(key) => key,
                None => {
                    let id = TaskId::from_file_name(&format!("{name}.md")).ok_or(refused)?;
                    return Ok(Some(request(world, Action::RetryAnywhere(id, writer.cloned()))));
                }
            }
        }
        (Err(refused), _) => return Err(refused),
    };
    match world.snapshot.tasks.get(&key).map(|task| &task.phase) {
        Some(Phase::Finished(finished)) if finished.ending.status == Status::Done => Err(Refused::new(
            RefusedKind::Invalid,
            format!("task {key} is done; `mv done/{} inbox/` runs it again", key.id.file_name()),
        )),
        Some(Phase::Finished(_)) | None => Ok(Some(request(world, Action::Retry(key, writer.cloned())))),
        Some(phase) => Err(Refused::new(RefusedKind::Busy, format!("task {key} is {}", phase.word()))),
    }
}

fn for_session(
    world: &mut World,
    name: SessionName,
    action: impl FnOnce(SessionName) -> Action,
) -> Result<u64, Refused> {
    let Some(session) = world.snapshot.sessions.get(&name).cloned() else {
        return Err(Refused::new(RefusedKind::NotFound, format!("there is no session {name}")));
    };
    let action = action(name.clone());
    let ends_it = matches!(action, Action::Exit(_) | Action::Restart(_));
    if ends_it && session.role == Role::Dedicated {
        return Err(Refused::new(
            RefusedKind::NotPermitted,
            format!("session {name} is dedicated to a person; its agent is never ended from here"),
        ));
    }
    match &session.phase {
        SessionPhase::Up(_) | SessionPhase::Starting(_) => {}
        SessionPhase::Down | SessionPhase::Ending(_) | SessionPhase::Dead { .. } if ends_it => {}
        SessionPhase::Down | SessionPhase::Ending(_) | SessionPhase::Dead { .. } => {
            return Err(Refused::new(RefusedKind::Unavailable, format!("no agent runs in session {name} now")));
        }
    }
    Ok(request(world, action))
}

fn request(world: &mut World, action: Action) -> u64 {
    let id = world.next_request();
    world.snapshot.requests.insert(id, Arc::new(action));
    id
}
