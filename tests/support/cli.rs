//! The real agent CLIs for tests, pinned, from npm, with isolated homes.
//! Takes a directory for the home and the mock's port; returns paths of native programs, and homes with dummy keys.
//! Owns `target/agents/`. Never uses the machine's own installation, home or keys.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    collections::BTreeMap,
    fs,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;

/// Pinned: the rules were measured on exactly these.
pub const CLAUDE: &str = "2.1.332";
pub const CODEX: &str = "0.171.0";
pub const QWEN: &str = "0.24.4";

/// The program of one version of a CLI, installed once into `target/agents/NAME-VERSION/`; else as `clis`.
#[must_use]
pub fn program(name: &str, version: &str) -> Option<PathBuf> {
    match install(name, version) {
        Ok(program) => Some(program),
        Err(why) => {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{name} {version} is needed in CI: {why}");
            println!("skipped: npm can't be reached or can't install {name} {version}: {why}");
            None
        }
    }
}

fn target_dir() -> PathBuf {
    let exe = std::env::current_exe().expect("the test's own path");
    // target/debug/deps/<test>
    exe.ancestors().nth(3).expect("a target directory").to_owned()
}

fn install(name: &str, version: &str) -> Result<PathBuf, String> {
    let dir = target_dir().join("agents").join(format!("{name}-{version}"));
    fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let lock = fs::File::create(dir.join(".lock")).map_err(|e| format!("its lock file: {e}"))?;
    // SAFETY: flock on a descriptor that `lock` keeps open; it is given up when `lock` is closed.
    if unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX) } != 0 {
        return Err(format!("its lock: {}", std::io::Error::last_os_error()));
    }
    if let Some(program) = installed(&dir, name) {
        return Ok(program);
    }
    let output = Command::new("npm")
        .args(["install", "--no-audit", "--no-fund", "--no-save", "--ignore-scripts", "--loglevel=error", "--prefix"])
        .arg(&dir)
        .arg(format!("{}@{version}", package(name)))
        .output()
        .map_err(|e| format!("npm can't be run: {e}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).lines().take(3).collect::<Vec<_>>().join(" "));
    }
    installed(&dir, name).ok_or_else(|| format!("{} holds no program after the installation", dir.display()))
}

/// npm's name of a CLI.
fn package(name: &str) -> &str {
    match name {
        "claude" => "@anthropic-ai/claude-code",
        "codex" => "@openai/codex",
        "gemini" => "@google/gemini-cli",
        "opencode" => "opencode-ai",
        "qwen" => "@qwen-code/qwen-code",
        other => panic!("no package of {other} is known"),
    }
}

/// The program in such a directory: the native one, which needs no node of a certain version, where there is one.
fn installed(dir: &Path, name: &str) -> Option<PathBuf> {
    let modules = dir.join("node_modules");
    let cpu = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
    let native = match name {
        "claude" => Some(modules.join(format!("@anthropic-ai/claude-code-linux-{cpu}/claude"))),
        "codex" => {
            let vendor = fs::read_dir(modules.join(format!("@openai/codex-linux-{cpu}/vendor")));
            let mut programs = vendor.into_iter().flatten().filter_map(Result::ok).map(|e| e.path().join("bin/codex"));
            programs.find(|program| program.is_file())
        }
        "opencode" => Some(modules.join(format!("opencode-linux-{cpu}/bin/opencode"))),
        _ => None,
    };
    native.into_iter().chain([modules.join(".bin").join(name)]).find(|program| program.is_file())
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
        "hasCompletedOnboarding": true, "lastOnboardingVersion": CLAUDE, "theme": "dark",
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

/// Makes an isolated `GEMINI_CLI_HOME` in which no first-run dialog comes up for `cwd`. Answers what the agent needs besides.
pub fn gemini_home(dir: &Path, cwd: &Path, port: u16, key: &str) -> BTreeMap<String, String> {
    let settings = json!({
        "security": {"auth": {"selectedType": "gemini-api-key"}}, "ui": {"theme": "Default"},
        "general": {"enableAutoUpdate": false}, "privacy": {"usageStatisticsEnabled": false},
    });
    let trusted = json!({ cwd.to_string_lossy(): "TRUST_FOLDER" });
    fs::create_dir_all(dir.join(".gemini")).expect("a home");
    fs::write(dir.join(".gemini/settings.json"), settings.to_string()).expect("settings.json");
    fs::write(dir.join(".gemini/trustedFolders.json"), trusted.to_string()).expect("trustedFolders.json");
    texts([("GOOGLE_GEMINI_BASE_URL", &format!("http://127.0.0.1:{port}")), ("GEMINI_API_KEY", key)])
}

/// A directory for opencode, which takes it by the XDG variables that come with the answer.
pub fn opencode_home(dir: &Path, port: u16, key: &str) -> BTreeMap<String, String> {
    let config = json!({
        "model": "mock/mock-large", "small_model": "mock/mock-large", "autoupdate": false,
        "provider": {"mock": {"npm": "@ai-sdk/openai-compatible", "name": "Mock",
            "options": {"baseURL": format!("http://127.0.0.1:{port}/v1"), "apiKey": key},
            "models": {"mock-large": {"name": "Mock Large"}}}},
    });
    fs::create_dir_all(dir.join("opencode")).expect("a home");
    fs::write(dir.join("opencode/opencode.json"), config.to_string()).expect("opencode.json");
    let dir = dir.display().to_string();
    texts([
        ("XDG_CONFIG_HOME", &dir),
        ("XDG_DATA_HOME", &format!("{dir}/data")),
        ("XDG_CACHE_HOME", &format!("{dir}/cache")),
        ("XDG_STATE_HOME", &format!("{dir}/state")),
        ("OPENCODE_DISABLE_AUTOUPDATE", "1"),
        ("OPENCODE_DISABLE_MODELS_FETCH", "1"),
    ])
}

/// Makes an isolated `QWEN_HOME`. Answers what the agent needs besides.
pub fn qwen_home(dir: &Path, port: u16, key: &str) -> BTreeMap<String, String> {
    let settings = json!({
        "security": {"auth": {"selectedType": "openai"}}, "ui": {"theme": "Default"},
        "general": {"enableAutoUpdate": false, "disableAutoUpdate": true}, "privacy": {"usageStatisticsEnabled": false},
    });
    fs::create_dir_all(dir).expect("a home");
    fs::write(dir.join("settings.json"), settings.to_string()).expect("settings.json");
    texts([
        ("OPENAI_BASE_URL", &format!("http://127.0.0.1:{port}/v1")),
        ("OPENAI_API_KEY", key),
        ("OPENAI_MODEL", "mock-large"),
    ])
}

fn texts<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}
