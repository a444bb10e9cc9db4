//! Claude Code's default home: `~/.claude`, with its answers beside it in `~/.claude.json`. A first user with one
//! account, and the same user later with two, following the advice of `check` word for word.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command};

use serde_json::Value;

use crate::{
    cli::{self, Login},
    mock_llm::MockLlm,
    stage::{ACCEPT, ACCOUNTS, SESSION},
    world::{self, Setup, World},
};

/// A person with a shell of his own.
struct Person {
    world: World,
    mock: MockLlm,
    program: PathBuf,
    /// Name and home of each account.
    accounts: Vec<(String, String)>,
    _runtime: tokio::runtime::Runtime,
}

impl Person {
    /// `None` where the CLI can't be installed.
    fn new() -> Option<Self> {
        let program = cli::program("claude", cli::CLAUDE)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let mock = runtime.block_on(MockLlm::start());
        let world = World::prepare(&Setup::agents(1));
        Some(Self { world, mock, program, accounts: Vec::new(), _runtime: runtime })
    }

    fn home(&self) -> PathBuf {
        self.world.path("home")
    }

    /// Writes the accounts into the configuration.
    fn configures(&mut self, accounts: &[(&str, &str)]) {
        self.accounts = accounts.iter().map(|(name, home)| ((*name).to_owned(), (*home).to_owned())).collect();
        let env = format!(
            "{{ANTHROPIC_BASE_URL: \"http://127.0.0.1:{}\", ANTHROPIC_API_KEY: {}, DISABLE_AUTOUPDATER: \"1\", \
             CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: \"1\"}}",
            self.mock.port(),
            ACCOUNTS[0].1
        );
        let row = |(name, home): &(String, String)| format!("{{name: {name}, home: {home}, env: {env}}}");
        let rows: Vec<String> = self.accounts.iter().map(row).collect();
        let setup = Setup {
            agent: "claude".to_owned(),
            more_agents: format!(", claude: {{kind: claude, program: {}, args: [{ACCEPT}]}}", self.program.display()),
            more: format!("accounts: [{}]", rows.join(", ")),
            env: vec![("TZ".to_owned(), "UTC".to_owned())],
            ..Setup::agents(1)
        };
        self.world.configure(&setup);
        fs::set_permissions(self.world.path("config.yaml"), fs::Permissions::from_mode(0o600)).expect("its mode");
    }

    /// What `check` says to do, each remedy once.
    fn remedies(&self, fix: &[&str]) -> (Vec<String>, String) {
        let mut check = Command::new(world::program());
        check.arg("check").args(fix).arg("--config").arg(self.world.path("config.yaml"));
        let output = check.env("HOME", self.home()).env("STATE_DIRECTORY", self.world.path("state")).output();
        let told = String::from_utf8_lossy(&output.expect("check").stdout).into_owned();
        let mut remedies: Vec<String> =
            told.lines().filter_map(|line| Some(line.trim_start().strip_prefix("-> ")?.to_owned())).collect();
        remedies.dedup();
        (remedies, told)
    }

    fn shell(&self, script: &str) {
        let path = format!("{}:{}", self.world.path("bin").display(), std::env::var("PATH").unwrap_or_default());
        let output = Command::new("sh")
            .args(["-c", script])
            .current_dir(self.world.path("web"))
            .env("HOME", self.home())
            .env("PATH", path)
            .env("ANTHROPIC_BASE_URL", format!("http://127.0.0.1:{}", self.mock.port()))
            .env("ANTHROPIC_API_KEY", ACCOUNTS[0].1)
            .env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
            .env_remove("CLAUDE_CONFIG_DIR")
            .output()
            .expect("sh");
        assert!(output.status.success(), "{script}: {output:?}");
    }

    /// Starts the CLI as the remedy says, and answers its first questions in the file that it keeps them in.
    fn logs_in(&self, command: &str) {
        fs::create_dir_all(self.world.path("bin")).expect("a directory");
        let link = self.world.path("bin/claude");
        if !link.exists() {
            std::os::unix::fs::symlink(&self.program, link).expect("a link");
        }
        let before = self.answers();
        self.shell(&format!("{command} -p hello </dev/null"));
        let mut made = self.answers();
        made.retain(|path| !before.contains(path));
        let [made] = made.as_slice() else { panic!("{command}: made {made:?}, had {before:?}") };
        let scratch = self.world.path("scratch");
        let _ = cli::claude_home(&scratch, &self.world.path("web"), self.mock.port(), Login::ApiKey(ACCOUNTS[0].1));
        let read = |path: &PathBuf| -> Value {
            serde_json::from_slice(&fs::read(path).expect("readable")).expect("its answers")
        };
        let (mut kept, given) = (read(made), read(&scratch.join(".claude.json")));
        for (key, value) in given.as_object().expect("an object") {
            kept[key] = value.clone();
        }
        fs::write(made, kept.to_string()).expect("written");
    }

    /// The files of answers that are there.
    fn answers(&self) -> Vec<PathBuf> {
        let places =
            [".claude.json", ".claude/.claude.json", ".claude-work/.claude.json", ".claude-private/.claude.json"];
        places.iter().map(|place| self.home().join(place)).filter(|path| path.exists()).collect()
    }

    /// Does what `check` says until it is content.
    fn follows_check(&mut self) {
        for _ in 0..6 {
            let (remedies, told) = self.remedies(&["--fix"]);
            println!("{told}");
            let Some(remedy) = remedies.first() else {
                assert!(told.contains("no problems"), "{told}");
                return;
            };
            let (what, command) = remedy.split_once(": ").unwrap_or_else(|| panic!("{remedy}"));
            let command = command.split("; ").next().expect("one at least");
            if what.starts_with("log in once") {
                self.logs_in(command);
            } else if let Some((command, home)) = command.split_once(", and give account ") {
                self.shell(command);
                let (name, _) = home.split_once(" that home").expect("which account");
                let moved = command.rsplit(' ').find_map(|word| word.strip_suffix("/.claude.json")).expect("where to");
                let mut accounts = self.accounts.clone();
                accounts.iter_mut().find(|account| account.0 == name).expect("the account").1 = moved.to_owned();
                let accounts: Vec<(&str, &str)> = accounts.iter().map(|(n, h)| (n.as_str(), h.as_str())).collect();
                self.configures(&accounts);
            } else if what.starts_with("with no agent running") {
                self.shell(command);
            } else {
                panic!("{remedy}\n{told}");
            }
        }
        panic!("check is never content");
    }

    fn does_a_task(&self, name: &str) {
        self.world.submit(name, "please say hello\n");
        let result = self.world.result(&format!("done/{name}.md"));
        assert!(result.contains("MOCK-REPLY done: "), "{result}");
    }
}

#[test]
fn claude_s_default_home_serves_one_account_and_then_two() {
    let Some(mut person) = Person::new() else { return };
    person.configures(&[("work", "~/.claude")]);
    let (remedies, told) = person.remedies(&[]);
    assert!(remedies.contains(&"log in once: claude".to_owned()), "{told}");
    person.follows_check();
    assert_eq!(person.answers(), [person.home().join(".claude.json")]);
    person.world.run();
    person.world.until_word(&format!("sessions/{SESSION}/state"), "idle");
    person.does_a_task("first");

    person.world.end_everything();
    person.configures(&[("work", "~/.claude"), ("private", "~/.claude-private")]);
    person.follows_check();
    assert!(person.home().join(".claude").is_symlink());
    person.world.run();
    person.world.until_word(&format!("sessions/{SESSION}/state"), "idle");
    person.does_a_task("second");
    assert_eq!(person.world.word(&format!("sessions/{SESSION}/account")), "work");
    person.world.ok("echo private > $MNT/accounts/active");
    person.world.until_word(&format!("sessions/{SESSION}/account"), "private");
    person.does_a_task("third");
}
