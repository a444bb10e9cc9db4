//! Tracks what runs in a person's session, where they start and quit agents as they like.
//! Takes what was found below the pane's process; returns what to report when it has changed. Pure.

use crate::model::{
    agent::Found,
    session::{Incarnation, Session, SessionEvent},
};

/// What there is to tell. `pane` is the process in the pane.
#[must_use]
pub fn news(session: &Session, known: &Incarnation, pane: u32, found: Option<Found>) -> Option<SessionEvent> {
    let now = match found {
        // A process keeps its account: the link by which it found its home may have been turned since.
        Some(found) if found.pid == known.pid => Found {
            account: known.account.clone().or(found.account),
            conversation: found.conversation.or_else(|| known.conversation.clone()),
            ..found
        },
        Some(found) => found,
        // Nobody was found before. Or we started it ourselves, with no shell around it: it is there as long as its pane is,
        // whatever its process is called.
        None if known.pid == pane && !session.spent => return None,
        None => Found { pid: pane, account: None, conversation: None, others: Vec::new() },
    };
    let Found { pid, account, conversation, others: _ } = now;
    let is_new = (pid, &account, &conversation) != (known.pid, &known.account, &known.conversation);
    is_new.then(|| SessionEvent::Found { of: known.id.clone(), pid, account, conversation })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::model::{
        ids::{AccountName, SessionName},
        samples,
        session::Role,
    };

    fn account(name: &str) -> Option<AccountName> {
        AccountName::parse(name).ok()
    }

    fn found(pid: u32, of: Option<AccountName>, conversation: Option<&str>) -> Found {
        Found { pid, account: of, conversation: conversation.map(str::to_owned), others: Vec::new() }
    }

    /// What is told of a session of which `known` was known, when `found` is found below pane process 10.
    fn told(spent: bool, known: Found, found: Option<Found>) -> Option<Found> {
        let name = SessionName::parse("mine").expect("name");
        let Found { pid, account, conversation, .. } = known;
        let incarnation = Incarnation { account, conversation, pid, ..samples::incarnation(&name) };
        let session = Session { spent, ..Session::new(name, Role::Dedicated, Timestamp::UNIX_EPOCH) };
        match news(&session, &incarnation, 10, found)? {
            SessionEvent::Found { pid, account, conversation, .. } => {
                Some(Found { pid, account, conversation, others: Vec::new() })
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_agent_that_comes_and_goes_is_told_once() {
        let shell = found(10, None, None);
        let agent = found(20, account("a"), Some("x"));
        assert_eq!(told(false, shell.clone(), None), None);
        assert_eq!(told(false, shell.clone(), Some(agent.clone())), Some(agent.clone()));
        assert_eq!(told(false, agent.clone(), Some(agent.clone())), None);
        assert_eq!(told(false, agent, None), Some(shell));
    }

    #[test]
    fn another_process_has_nothing_of_the_last_one() {
        let last = found(20, account("a"), Some("x"));
        let next = found(30, account("b"), None);
        assert_eq!(told(false, last, Some(next.clone())), Some(next));
    }

    #[test]
    fn a_process_keeps_its_account_and_a_conversation_once_known() {
        let known = found(20, account("a"), Some("x"));
        assert_eq!(told(false, known.clone(), Some(found(20, account("b"), None))), None);
        let other = found(20, account("b"), Some("y"));
        assert_eq!(told(false, known, Some(other)), Some(found(20, account("a"), Some("y"))));
    }

    #[test]
    fn what_we_started_is_there_until_only_the_shell_around_it_is() {
        let ours = found(10, account("a"), Some("x"));
        assert_eq!(told(false, ours.clone(), None), None);
        assert_eq!(told(true, ours, None), Some(found(10, None, None)));
    }
}
