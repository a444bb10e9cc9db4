//! The real agent CLIs for tests, pinned, from npm, and isolated homes for them.
//! In: a directory to make a home in, the port of the mock. Out: paths of native programs, homes with dummy keys. Owns
//! `target/agents/`. Never uses the machine's own installation, home or keys.

#![allow(dead_code)]

use std::{
    collections::BTreeMap,
    fs,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;

/// Pinned: the rules were measured on exactly these.
pub const CLAUDE: &str = "@anthropic-ai/claude-code@2.1.332";
pub const CODEX: &str = "@openai/codex@0.171.0";

/// The two programs.
#[derive(Debug, Clone)]
pub struct Clis {
    pub claude: PathBuf,
    pub codex: PathBuf,
}

/// Installs the CLIs once into `target/agents/`, or says why that can't be: `None` and a printed line. With `CI=true` in
/// the environment it panics instead, so that CI can't pass without them.
#[must_use]
pub fn clis() -> Option<Clis> {
    match install() {
        Ok(clis) => Some(clis),
        Err(why) => {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "the agent CLIs are needed in CI: {why}");
            println!("skipped: npm can't be reached or can't install the agent CLIs: {why}");
            None
        }
    }
}

fn target_dir() -> PathBuf {
    let exe = std::env::current_exe().expect("the test's own path");
    // target/debug/deps/<test>
    exe.ancestors().nth(3).expect("a target directory").to_owned()
}

fn install() -> Result<Clis, String> {
    let dir = target_dir().join("agents");
    fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let lock = fs::File::create(dir.join(".lock")).map_err(|e| format!("its lock file: {e}"))?;
    // SAFETY: flock on a descriptor that `lock` keeps open; it is given up when `lock` is closed.
    if unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX) } != 0 {
        return Err(format!("its lock: {}", std::io::Error::last_os_error()));
    }
    if let Some(clis) = installed(&dir) {
        return Ok(clis);
    }
    let output = Command::new("npm")
        .args(["install", "--no-audit", "--no-fund", "--no-save", "--ignore-scripts", "--loglevel=error", "--prefix"])
        .arg(&dir)
        .args([CLAUDE, CODEX])
        .output()
        .map_err(|e| format!("npm can't be run: {e}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).lines().take(3).collect::<Vec<_>>().join(" "));
    }
    installed(&dir).ok_or_else(|| format!("{} holds no native programs after the installation", dir.display()))
}

/// The native programs, when the pinned versions are there.
fn installed(dir: &Path) -> Option<Clis> {
    let modules = dir.join("node_modules");
    let version = |package: &str| {
        let text = fs::read_to_string(modules.join(package).join("package.json")).ok()?;
        let value: serde_json::Value = serde_json::from_str(&text).ok()?;
        value["version"].as_str().map(str::to_owned)
    };
    let pinned = |spec: &str| {
        let (package, want) = spec.rsplit_once('@')?;
        (version(package)? == want).then_some(())
    };
    pinned(CLAUDE)?;
    pinned(CODEX)?;
    let cpu = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
    let claude = modules.join(format!("@anthropic-ai/claude-code-linux-{cpu}/claude"));
    let vendor = modules.join(format!("@openai/codex-linux-{cpu}/vendor"));
    let codex =
        fs::read_dir(vendor).ok()?.filter_map(Result::ok).map(|e| e.path().join("bin/codex")).find(|p| p.is_file())?;
    claude.is_file().then_some(Clis { claude, codex })
}

/// How an account of Claude Code logs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login<'a> {
    /// A paid-per-use key: never has a usage limit.
    ApiKey(&'a str),
    /// A subscription: can hit its 5-hour and weekly limits.
    Subscription { token: &'a str },
}

/// Makes an isolated `CLAUDE_CONFIG_DIR` in which no first-run dialog comes up for `cwd`. Answers the environment that
/// the agent needs besides: the mock's address and, with a key, the key.
pub fn claude_home(dir: &Path, cwd: &Path, port: u16, login: Login<'_>) -> BTreeMap<String, String> {
    fs::create_dir_all(dir).expect("a home");
    let approved = match login {
        Login::ApiKey(key) => vec![key.chars().skip(key.chars().count().saturating_sub(20)).collect::<String>()],
        Login::Subscription { .. } => Vec::new(),
    };
    let state = json!({
        "hasCompletedOnboarding": true, "lastOnboardingVersion": "2.1.329", "theme": "dark",
        "hasSeenAutoDefaultNotice": true,
        "projects": { cwd.to_string_lossy(): {"hasTrustDialogAccepted": true} },
        "customApiKeyResponses": {"approved": approved, "rejected": []},
    });
    fs::write(dir.join(".claude.json"), state.to_string()).expect(".claude.json");
    let mut env = BTreeMap::from([
        ("ANTHROPIC_BASE_URL".to_owned(), format!("http://127.0.0.1:{port}")),
        ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC".to_owned(), "1".to_owned()),
        ("DISABLE_AUTOUPDATER".to_owned(), "1".to_owned()),
    ]);
    match login {
        Login::ApiKey(key) => {
            env.insert("ANTHROPIC_API_KEY".to_owned(), key.to_owned());
        }
        Login::Subscription { token } => {
            let oauth = json!({"claudeAiOauth": {
                "accessToken": token, "refreshToken": format!("{token}-refresh"), "expiresAt": 4_102_444_800_000_u64,
                "scopes": ["user:inference", "user:profile"], "subscriptionType": "max",
                "rateLimitTier": "default_claude_max_20x",
            }});
            fs::write(dir.join(".credentials.json"), oauth.to_string()).expect(".credentials.json");
        }
    }
    env
}

/// Makes an isolated `CODEX_HOME` that uses the mock as its provider. Answers the environment that the agent needs
/// besides: the key.
pub fn codex_home(dir: &Path, cwd: &Path, port: u16, key: &str) -> BTreeMap<String, String> {
    fs::create_dir_all(dir).expect("a home");
    let config = format!(
        "model = \"gpt-5.5\"\nmodel_provider = \"mock\"\napproval_policy = \"on-request\"\n\
         sandbox_mode = \"workspace-write\"\ncheck_for_update_on_startup = false\n\n\
         [analytics]\nenabled = false\n\n[notice.model_migrations]\n\"gpt-5.5\" = \"gpt-6-sol\"\n\n\
         [projects.{:?}]\ntrust_level = \"trusted\"\n\n\
         [model_providers.mock]\nname = \"mock\"\nbase_url = \"http://127.0.0.1:{port}/v1\"\nwire_api = \"responses\"\n\
         env_key = \"MOCK_KEY\"\n",
        cwd.to_string_lossy()
    );
    fs::write(dir.join("config.toml"), config).expect("config.toml");
    BTreeMap::from([("MOCK_KEY".to_owned(), key.to_owned())])
}
