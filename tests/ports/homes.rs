//! The accounts' homes and the operator's link.

use std::{fs, os::unix::fs::symlink, path::PathBuf, sync::Arc};

use claude_failover::{config, model::ids::AccountName, ports::Homes, sys::homes::AccountHomes};
use claude_failover_sim::{FakeAccount, FakeWorld};
use jiff::Timestamp;
use tempfile::TempDir;

/// What happens to a home without the daemon.
#[derive(Clone, Copy)]
enum Happens {
    LinksBreak,
    LinksMended,
    NoTurn,
    Login,
}

type Hand = Box<dyn Fn(&AccountName, Happens) + Send + Sync>;

struct World {
    homes: Arc<dyn Homes>,
    hand: Hand,
    _temp: Option<TempDir>,
}

fn account(name: &str) -> AccountName {
    AccountName::parse(name).expect("a name")
}

async fn real() -> World {
    let temp = tempfile::tempdir().expect("a directory");
    let root = temp.path().to_owned();
    let text = "accounts: [{name: one, home: ~/one}, {name: two, home: ~/two}]\n";
    let home = root.clone();
    let env = move |name: &str| (name == "HOME").then(|| home.clone().into());
    for home in ["one", "two"] {
        fs::create_dir(root.join(home)).expect("a home");
    }
    let config = config::parse(text, &root.join("config.yaml"), &env).expect("right").config;
    let homes = AccountHomes::new(&config);
    assert!(homes.report(true).faults.is_empty());
    let hand = move |account: &AccountName, happens: Happens| {
        let links: PathBuf = root.join(account.as_str()).join("projects");
        match happens {
            Happens::LinksBreak => {
                fs::remove_file(&links).expect("a link");
                fs::create_dir(&links).expect("in its place");
            }
            Happens::LinksMended => {
                fs::remove_dir(&links).expect("empty");
                symlink(root.join(".claude-projects-shared"), &links).expect("a link");
            }
            Happens::NoTurn => {
                fs::remove_file(root.join(".claude")).expect("a link");
                fs::create_dir(root.join(".claude")).expect("in its place");
            }
            Happens::Login => fs::write(root.join(account.as_str()).join(".credentials.json"), "{}").expect("written"),
        }
    };
    World { homes: Arc::new(homes), hand: Box::new(hand), _temp: Some(temp) }
}

async fn in_memory() -> World {
    let world = FakeWorld::new(1);
    world.with(|inner| {
        inner.accounts.extend(["one", "two"].map(|name| (account(name), FakeAccount::default())));
        inner.link = Some(account("one"));
    });
    let outside = world.clone();
    let hand = move |name: &AccountName, happens: Happens| {
        outside.with(|inner| {
            let truth = inner.accounts.get_mut(name).expect("an account");
            match happens {
                Happens::LinksBreak => truth.links_broken = true,
                Happens::LinksMended => truth.links_broken = false,
                Happens::NoTurn => truth.flip_fails = true,
                Happens::Login => truth.logged_in = Some(Timestamp::UNIX_EPOCH),
            }
        });
    };
    World { homes: world, hand: Box::new(hand), _temp: None }
}

contract!(super::real(), super::in_memory();
    the_link_leads_where_it_was_turned_last,
    a_link_that_can_not_be_turned_is_an_error,
    what_homes_share_is_whole_or_told,
    nobody_s_account_has_no_home,
    a_login_is_seen,
);

async fn the_link_leads_where_it_was_turned_last(world: World) {
    for name in ["two", "one", "one", "two"] {
        world.homes.flip(&account(name)).await.expect("turned");
        for other in ["one", "two"] {
            assert_eq!(world.homes.leads_to(&account(other)).await, other == name, "{other} after {name}");
        }
    }
}

async fn a_link_that_can_not_be_turned_is_an_error(world: World) {
    (world.hand)(&account("two"), Happens::NoTurn);
    assert!(world.homes.flip(&account("two")).await.is_err());
    assert!(!world.homes.leads_to(&account("two")).await);
}

async fn what_homes_share_is_whole_or_told(world: World) {
    let two = account("two");
    assert_eq!(world.homes.ensure(&two).await, Ok(()));
    (world.hand)(&two, Happens::LinksBreak);
    let told = world.homes.ensure(&two).await.expect_err("told");
    assert!(!told.0.is_empty() && told.0.iter().all(|fault| !fault.is_empty()), "{told:?}");
    assert_eq!(world.homes.ensure(&account("one")).await, Ok(()), "another home is whole");
    (world.hand)(&two, Happens::LinksMended);
    assert_eq!(world.homes.ensure(&two).await, Ok(()));
}

async fn nobody_s_account_has_no_home(world: World) {
    let nobody = account("nobody");
    let turned = world.homes.flip(&nobody).await.map_err(|error| error.kind());
    assert_eq!(turned, Err(std::io::ErrorKind::NotFound));
    assert!(world.homes.ensure(&nobody).await.is_err());
    assert_eq!((world.homes.leads_to(&nobody).await, world.homes.logged_in(&nobody).await), (false, None));
    assert!(world.homes.leads_to(&account("one")).await, "the link stays");
}

async fn a_login_is_seen(world: World) {
    assert_eq!(world.homes.logged_in(&account("one")).await, None);
    (world.hand)(&account("one"), Happens::Login);
    assert!(world.homes.logged_in(&account("one")).await.is_some());
    assert_eq!(world.homes.logged_in(&account("two")).await, None);
}
