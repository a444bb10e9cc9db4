//! The accounts' homes on a real disk: faults are reported at once, only missing parts are created, and the operator's
//! link never disappears.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use claude_failover::{
    config::{self, Config},
    model::ids::AccountName,
    ports::Homes,
    sys::homes::AccountHomes,
};

/// A home directory of a person who has two accounts of Claude Code and two of Codex.
struct Person {
    dir: tempfile::TempDir,
}

impl Person {
    fn new() -> Self {
        let person = Self { dir: tempfile::tempdir().expect("a directory") };
        for home in ["one", "two", "oa", "ob"] {
            fs::create_dir(person.path(home)).expect("a home");
        }
        person
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn config(&self, text: &str) -> Config {
        let home = self.dir.path().as_os_str().to_owned();
        let loaded = config::parse(text, &self.path("config.yaml"), &|name| (name == "HOME").then(|| home.clone()));
        loaded.unwrap_or_else(|problems| panic!("{problems}")).config
    }

    fn homes(&self) -> AccountHomes {
        AccountHomes::new(&self.config(ACCOUNTS))
    }

    /// Every path with what it is.
    fn tree(&self) -> Vec<String> {
        let mut all = Vec::new();
        let mut todo = vec![self.dir.path().to_owned()];
        while let Some(path) = todo.pop() {
            let shown = path.strip_prefix(self.dir.path()).expect("below").display().to_string();
            let meta = path.symlink_metadata().expect("facts");
            if meta.is_dir() {
                all.push(format!("{shown} {:o}", meta.permissions().mode() & 0o7777));
                todo.extend(fs::read_dir(&path).expect("list").map(|entry| entry.expect("entry").path()));
            } else if meta.is_symlink() {
                let to = fs::read_link(&path).expect("a link");
                all.push(format!("{shown} -> {}", to.strip_prefix(self.dir.path()).unwrap_or(&to).display()));
            } else {
                all.push(format!("{shown} {:?}", fs::read_to_string(&path).expect("text")));
            }
        }
        all.sort();
        all
    }
}

const ACCOUNTS: &str = "accounts:\n  - {name: one, home: ~/one}\n  - {name: two, home: ~/two}\n  - {name: oa, home: ~/oa, agent: codex}\n  - {name: ob, home: ~/ob, agent: codex}\n";

fn account(name: &str) -> AccountName {
    AccountName::parse(name).expect("a name")
}

fn told(homes: &AccountHomes) -> Vec<String> {
    homes.faults().into_iter().map(|fault| format!("{}: {}", fault.key, fault.message)).collect()
}

#[test]
fn all_home_problems_are_reported_at_once() {
    let person = Person::new();
    fs::remove_dir(person.path("two")).expect("gone");
    fs::write(person.path("one/projects"), "x").expect("a file");
    symlink(person.path("one"), person.path("one/file-history")).expect("a link");
    fs::create_dir(person.path("oa/sessions")).expect("a directory");
    fs::create_dir(person.path(".claude")).expect("a directory");
    let told = told(&person.homes());
    let wanted = [
        ["accounts[0].home: ", "one/session-env is missing"],
        ["accounts[0].home: ", "one/file-history leads to "],
        ["accounts[0].home: ", "one/projects is a file"],
        ["accounts[1].home: ", "two doesn't exist"],
        ["accounts[2].home: ", "oa/sessions is a directory"],
        ["accounts[3].home: ", "ob/sessions is missing"],
        ["claude_link: ", ".claude is a directory"],
    ];
    assert_eq!(told.len(), wanted.len(), "{told:#?}");
    for (told, wanted) in told.iter().zip(wanted) {
        assert!(wanted.iter().all(|part| told.contains(part)), "{told:?} says nothing of {wanted:?}");
    }
}

#[tokio::test]
async fn a_divergent_link_is_never_repaired() {
    let person = Person::new();
    let elsewhere = person.path("elsewhere");
    fs::create_dir(&elsewhere).expect("a directory");
    symlink(&elsewhere, person.path("two/projects")).expect("a link");
    let before = person.tree();
    let homes = person.homes();
    let faults = homes.ensure(&account("two")).await.expect_err("refused");
    let text = faults.to_string();
    assert!(text.contains("two/projects leads to ") && text.contains("move what is in it to "), "{text}");
    // Nothing was made of what is missing either: a half mended home is harder to understand.
    assert_eq!(person.tree(), before);
    let report = homes.report(true);
    assert_eq!(report.faults.iter().filter(|fault| !fault.missing).count(), 1, "{:#?}", report.faults);
    assert_eq!(fs::read_link(person.path("two/projects")).expect("a link"), elsewhere);
}

#[tokio::test]
async fn a_regular_file_in_a_links_place_is_an_error() {
    let person = Person::new();
    fs::write(person.path("one/projects"), "mine").expect("a file");
    // So is a file where the shared directory should be.
    fs::write(person.path(".claude-session-env-shared"), "mine too").expect("a file");
    fs::write(person.path(".claude"), "and mine").expect("a file");
    let homes = person.homes();
    let before = person.tree();
    let faults = homes.ensure(&account("one")).await.expect_err("refused").0;
    assert!(faults.iter().any(|fault| fault.contains("one/projects is a file")), "{faults:#?}");
    assert!(faults.iter().any(|fault| fault.contains(".claude-session-env-shared isn't a directory")), "{faults:#?}");
    let error = homes.flip(&account("two")).await.expect_err("refused").to_string();
    assert!(error.contains(".claude is a file") && error.contains("claude_link: null"), "{error}");
    assert_eq!(person.tree(), before);
}

#[test]
fn check_fix_creates_only_what_is_missing() {
    let person = Person::new();
    fs::create_dir(person.path("two/projects")).expect("a directory");
    fs::write(person.path("two/projects/mine"), "mine").expect("a file");
    let homes = person.homes();
    let mut wanted = person.tree();
    let looked = homes.report(false);
    assert!(looked.made.is_empty());
    assert_eq!(person.tree(), wanted, "a look changed something");
    let report = homes.report(true);
    assert_eq!(report.faults.len(), 1, "{:#?}", report.faults);
    assert!(report.faults[0].message.contains("two/projects is a directory"), "{:#?}", report.faults);
    wanted.extend(
        [
            ".claude -> one",
            ".claude-file-history-shared 700",
            ".claude-projects-shared 700",
            ".claude-session-env-shared 700",
            ".codex-sessions-shared 700",
            "oa/sessions -> .codex-sessions-shared",
            "ob/sessions -> .codex-sessions-shared",
            "one/file-history -> .claude-file-history-shared",
            "one/projects -> .claude-projects-shared",
            "one/session-env -> .claude-session-env-shared",
            "two/file-history -> .claude-file-history-shared",
            "two/session-env -> .claude-session-env-shared",
        ]
        .map(str::to_owned),
    );
    wanted.sort();
    assert_eq!(person.tree(), wanted);
    assert_eq!(report.made.len(), 12, "{:#?}", report.made);
    assert!(homes.report(true).made.is_empty());
    assert_eq!(person.tree(), wanted);
}

#[tokio::test]
async fn ensuring_makes_a_home_whole_for_the_next_account() {
    let person = Person::new();
    let homes = person.homes();
    homes.ensure(&account("one")).await.expect("whole");
    homes.ensure(&account("two")).await.expect("whole");
    let told = told(&homes);
    assert_eq!(told.len(), 3, "Codex's homes and the link are left: {told:#?}");
    fs::write(person.path("one/projects/talk.jsonl"), "…").expect("written");
    assert!(person.path("two/projects/talk.jsonl").is_file());
    // Another spelling of the same place is the same place.
    fs::remove_file(person.path("two/projects")).expect("gone");
    symlink("../one/../.claude-projects-shared", person.path("two/projects")).expect("a link");
    homes.ensure(&account("two")).await.expect("whole");
    // What a link leads to may go missing too, however it is spelled.
    for entry in ["file-history", "projects"] {
        fs::remove_dir_all(person.path(&format!(".claude-{entry}-shared"))).expect("gone");
    }
    homes.ensure(&account("two")).await.expect("whole");
    assert!(person.path("one/file-history").is_dir() && person.path("two/projects").is_dir());
}

#[tokio::test]
async fn an_account_alone_needs_no_links() {
    let person = Person::new();
    let text = "accounts: [{name: one, home: ~/one}, {name: oa, home: ~/oa, agent: codex}]\n";
    let homes = AccountHomes::new(&person.config(text));
    let before = person.tree();
    assert!(homes.faults().is_empty());
    homes.ensure(&account("one")).await.expect("a directory is enough");
    homes.flip(&account("one")).await.expect("no link to turn");
    assert_eq!((homes.linked(), person.tree()), (None, before));
    fs::remove_dir(person.path("one")).expect("gone");
    let faults = homes.ensure(&account("one")).await.expect_err("no home").to_string();
    assert!(faults.contains("doesn't exist; log in once with this home: CLAUDE_CONFIG_DIR="), "{faults}");
    assert!(homes.faults().is_empty(), "an account alone keeps nothing from starting");
}

#[tokio::test]
async fn the_link_is_turned_and_followed() {
    let person = Person::new();
    let homes = person.homes();
    assert_eq!(homes.linked(), None);
    homes.flip(&account("two")).await.expect("made");
    assert_eq!(homes.linked(), Some(account("two")));
    assert_eq!(homes.astray(&[account("two"), account("oa")]), None);
    let text = homes.astray(&[account("one"), account("oa")]).expect("it leads elsewhere");
    assert!(text.contains("the active account is one"), "{text}");
    homes.flip(&account("ob")).await.expect("Codex has no link");
    assert_eq!(homes.linked(), Some(account("two")));
    // A link that a person turned elsewhere is turned by the next swap.
    fs::remove_file(person.path(".claude")).expect("gone");
    symlink(person.path("oa"), person.path(".claude")).expect("a link");
    assert_eq!(homes.linked(), None);
    homes.flip(&account("one")).await.expect("turned");
    assert_eq!(homes.linked(), Some(account("one")));
    // What a turn that was cut short left does not stand in the way.
    symlink("x", person.path("..claude.claude-failover")).expect("a link");
    homes.flip(&account("two")).await.expect("turned");
    assert_eq!(homes.linked(), Some(account("two")));
    assert!(person.path("..claude.claude-failover").symlink_metadata().is_err());
}

#[tokio::test]
async fn a_home_in_the_links_place_is_told() {
    let person = Person::new();
    let text = "accounts: [{name: one, home: ~/.claude}, {name: two, home: ~/two}]\n";
    fs::create_dir(person.path(".claude")).expect("a home");
    let homes = AccountHomes::new(&person.config(text));
    let told = told(&homes);
    assert!(
        told.iter().any(|text| text.starts_with("claude_link: ") && text.contains("home of account one")),
        "{told:#?}"
    );
    let error = homes.flip(&account("two")).await.expect_err("refused").to_string();
    assert!(error.contains("claude_link: null"), "{error}");
    let left_alone = AccountHomes::new(&person.config(&format!("claude_link: null\n{text}")));
    left_alone.flip(&account("two")).await.expect("nothing to turn");
    assert!(left_alone.faults().iter().all(|fault| fault.missing), "{:#?}", left_alone.faults());
}

#[tokio::test]
async fn a_login_is_seen() {
    let person = Person::new();
    let homes = person.homes();
    for (name, file) in [("one", "one/.credentials.json"), ("oa", "oa/auth.json")] {
        assert_eq!(homes.logged_in(&account(name)).await, None);
        fs::write(person.path(file), "{}").expect("written");
        let modified = fs::metadata(person.path(file)).expect("facts").modified().expect("a time");
        assert_eq!(homes.logged_in(&account(name)).await, jiff::Timestamp::try_from(modified).ok());
    }
}

/// A reader who looks all the time always finds one home or the other.
#[test]
fn the_link_is_never_missing_while_it_is_turned() {
    const TURNS: u64 = 200;
    const MOST_TURNS: u64 = 200_000;
    let person = Person::new();
    let homes = person.homes();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(homes.flip(&account("one"))).expect("made");
    let (link, one, two) = (person.path(".claude"), person.path("one"), person.path("two"));
    let (over, looks) = (AtomicBool::new(false), AtomicU64::new(0));
    let seen = [AtomicBool::new(false), AtomicBool::new(false)];
    let both = || seen.iter().all(|seen| seen.load(Ordering::Relaxed));
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let to = fs::read_link(&link).unwrap_or_else(|error| panic!("after {looks:?} looks: {error}"));
                assert!(to == one || to == two, "{}", to.display());
                assert!(link.is_dir(), "the link leads nowhere");
                seen[usize::from(to == two)].store(true, Ordering::Relaxed);
                looks.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut turn = 0;
        while !reader.is_finished() && (turn < TURNS || !both() && turn < MOST_TURNS) {
            let to = account(if turn % 2 == 0 { "two" } else { "one" });
            runtime.block_on(homes.flip(&to)).expect("turned");
            turn += 1;
        }
        over.store(true, Ordering::Relaxed);
        reader.join().expect("always there");
        assert!(both(), "{looks:?} looks met one home only: nothing was at risk");
    });
    assert_eq!(fs::read_dir(person.dir.path()).expect("list").count(), 5, "something is left beside the link");
}
