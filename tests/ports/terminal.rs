//! The terminal's panes.

use std::{sync::Arc, time::Duration};

use claude_failover::{
    model::{
        ids::SessionName,
        pane::{Background, Capture, Exit, Key, Launch, Pane, PaneId, TerminalError, TerminalHint},
    },
    ports::Terminal,
};
use claude_failover_sim::FakeWorld;

use crate::tmux::{self, launch};

/// Longest that anything here may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);
const GRACE: Duration = Duration::from_secs(5);

struct World {
    terminal: Arc<dyn Terminal>,
    _tmux: Option<tmux::World>,
}

async fn real() -> World {
    let tmux = tmux::World::new();
    World { terminal: tmux.connect().await, _tmux: Some(tmux) }
}

async fn in_memory() -> World {
    let world = FakeWorld::new(1);
    world.attach(Duration::ZERO);
    world.with(|inner| inner.pool.extend([session("a"), session("b")]));
    World { terminal: world, _tmux: None }
}

fn session(name: &str) -> SessionName {
    SessionName::parse(name).expect("a name")
}

/// A program that reads what is typed.
fn program(name: &str) -> Launch {
    launch(name, &["/bin/sh", "-c", "cat"])
}

contract!(super::real(), super::in_memory();
    a_session_that_was_opened_is_listed_and_told,
    a_program_that_runs_is_not_replaced_and_not_closed,
    a_program_that_was_ended_leaves_its_pane_and_another_takes_it,
    a_pane_that_is_closed_is_gone,
    text_that_could_be_keys_is_refused,
);

async fn pane(world: &World, name: &str) -> Option<Pane> {
    let panes = world.terminal.panes().await.expect("an answer");
    panes.into_iter().find(|pane| pane.session == session(name))
}

/// The pane's exit, when there is one.
async fn ended(world: &World, name: &str) -> Exit {
    let looks = async {
        loop {
            match pane(world, name).await.and_then(|pane| pane.exit) {
                Some(exit) => return exit,
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, looks).await.expect("it ends")
}

async fn a_session_that_was_opened_is_listed_and_told(world: World) {
    assert!(world.terminal.panes().await.expect("an answer").is_empty());
    let mut hints = world.terminal.hints();
    let opened = world.terminal.open(&program("a")).await.expect("opened");
    assert_eq!((&opened.session, opened.exit, opened.incarnation.as_deref()), (&session("a"), None, Some("inc-a")));
    let found = pane(&world, "a").await.expect("listed");
    assert_eq!((&found.id, found.pid), (&opened.id, opened.pid));
    let told = async { while !matches!(hints.recv().await, Ok(TerminalHint::Panes)) {} };
    tokio::time::timeout(PATIENCE, told).await.expect("a hint");
    let screens =
        world.terminal.capture(&[opened.id, PaneId("%77777".to_owned())], Capture::Plain).await.expect("read");
    assert!(screens[0].is_ok() && matches!(screens[1], Err(TerminalError::Gone { .. })), "{screens:?}");
}

async fn a_program_that_runs_is_not_replaced_and_not_closed(world: World) {
    let first = world.terminal.open(&program("a")).await.expect("opened");
    assert!(matches!(world.terminal.open(&program("a")).await, Err(TerminalError::Refused { .. })));
    assert!(matches!(world.terminal.close(&session("a")).await, Err(TerminalError::Refused { .. })));
    let other = world.terminal.open(&program("b")).await.expect("opened");
    assert_ne!((&first.id, first.pid), (&other.id, other.pid));
    assert_eq!(pane(&world, "a").await.map(|pane| pane.pid), Some(first.pid));
}

async fn a_program_that_was_ended_leaves_its_pane_and_another_takes_it(world: World) {
    let first = world.terminal.open(&program("a")).await.expect("opened");
    world.terminal.terminate(&first.id, GRACE, Background::Ends).await.expect("ended");
    assert!(matches!(ended(&world, "a").await, Exit::Signal(_)));
    let enter = [Key("Enter".to_owned())];
    assert!(matches!(world.terminal.paste(&first.id, "hello").await, Err(TerminalError::Dead { .. })));
    assert!(matches!(world.terminal.keys(&first.id, &enter).await, Err(TerminalError::Dead { .. })));
    world.terminal.terminate(&first.id, GRACE, Background::Ends).await.expect("one that is over is success");
    let again = Launch { incarnation: "inc-2".to_owned(), ..program("a") };
    let second = world.terminal.open(&again).await.expect("opened in its place");
    assert_ne!(second.pid, first.pid);
    let found = pane(&world, "a").await.expect("listed");
    assert_eq!((found.exit, found.incarnation.as_deref()), (None, Some("inc-2")));
}

async fn a_pane_that_is_closed_is_gone(world: World) {
    let opened = world.terminal.open(&program("a")).await.expect("opened");
    world.terminal.terminate(&opened.id, GRACE, Background::Ends).await.expect("ended");
    ended(&world, "a").await;
    world.terminal.close(&session("a")).await.expect("closed");
    assert!(pane(&world, "a").await.is_none());
    world.terminal.close(&session("a")).await.expect("one that is gone is success");
    let typed = world.terminal.paste(&opened.id, "hello").await;
    assert!(matches!(typed, Err(TerminalError::Gone { .. })), "{typed:?}");
}

async fn text_that_could_be_keys_is_refused(world: World) {
    let opened = world.terminal.open(&program("a")).await.expect("opened");
    world.terminal.paste(&opened.id, "two\nlines\tand ä").await.expect("pasted");
    for text in ["\u{1b}[201~rm", "a\u{3}", "a\rb"] {
        assert!(matches!(world.terminal.paste(&opened.id, text).await, Err(TerminalError::Text { .. })), "{text:?}");
    }
}
