//! LiteLLM's proxy for tests, pinned, from PyPI, on loopback with its own mock models.
//! Returns the address of a running proxy and its key. Owns `target/litellm/` and the process. Needs no network once
//! installed, and never reaches a real provider.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Pinned: its texts were measured on exactly this.
const LITELLM: &str = "litellm[proxy]==1.80.0";

/// Its imports alone take seconds on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);

pub const KEY: &str = "sk-test-of-the-proxy";

/// One model for each fate. The price of `gpt-4o` is LiteLLM's own.
const CONFIG: &str = r#"
model_list:
  - {model_name: good, litellm_params: {model: openai/gpt-4o, api_key: k, mock_response: "hello from the proxy"}}
  - {model_name: limited, litellm_params: {model: openai/x, api_key: k, mock_response: litellm.RateLimitError}}
  - {model_name: broken, litellm_params: {model: openai/x, api_key: k, mock_response: litellm.InternalServerError}}
  - {model_name: poor, litellm_params: {model: openai/gpt-4o, api_key: k, mock_response: spent, max_budget: 0.0000001, budget_duration: 1d}}
litellm_settings: {num_retries: 0, include_cost_in_streaming_usage: true}
router_settings: {allowed_fails: 0, cooldown_time: 60}
general_settings: {master_key: sk-test-of-the-proxy}
"#;

/// The running proxy; it ends when this is dropped.
pub struct Proxy {
    child: Child,
    port: u16,
    home: tempfile::TempDir,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.end();
    }
}

impl Proxy {
    /// Starts it, or says why that can't be: `None` and a printed line. With `CI=true` in the environment it panics
    /// instead, so that CI can't pass without it.
    pub fn start() -> Option<Self> {
        let program = match install() {
            Ok(program) => program,
            Err(why) => {
                assert!(std::env::var("CI").as_deref() != Ok("true"), "LiteLLM is needed in CI: {why}");
                println!("skipped: PyPI can't be reached or can't install LiteLLM: {why}");
                return None;
            }
        };
        let home = tempfile::tempdir().expect("a directory");
        fs::write(home.path().join("config.yaml"), CONFIG).expect("written");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        let log = fs::File::create(home.path().join("log")).expect("made");
        let child = Command::new(program)
            .args(["--config", "config.yaml", "--host", "127.0.0.1", "--telemetry", "False", "--port"])
            .arg(port.to_string())
            .current_dir(home.path())
            .env("HOME", home.path())
            // Its table of prices is else fetched.
            .env("LITELLM_LOCAL_MODEL_COST_MAP", "True")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("started");
        let mut proxy = Self { child, port, home };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let log = || fs::read_to_string(proxy.home.path().join("log")).unwrap_or_default();
            assert!(proxy.child.try_wait().expect("asked").is_none(), "LiteLLM ended: {}", log());
            assert!(Instant::now() < deadline, "LiteLLM does not listen: {}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(proxy)
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }

    pub fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn install() -> Result<PathBuf, String> {
    let exe = std::env::current_exe().map_err(|e| e.to_string())?;
    // target/debug/deps/<test>
    let target = exe.ancestors().nth(3).ok_or("no target directory")?;
    let dir = target.join("litellm");
    let lock = fs::File::create(target.join("litellm.lock")).map_err(|e| format!("its lock file: {e}"))?;
    // SAFETY: flock on a descriptor that `lock` keeps open; it is given up when `lock` is closed.
    if unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX) } != 0 {
        return Err(format!("its lock: {}", std::io::Error::last_os_error()));
    }
    let (program, done) = (dir.join("bin/litellm"), dir.join(".installed"));
    if fs::read_to_string(&done).is_ok_and(|what| what == LITELLM) {
        return Ok(program);
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir))?;
    // Wheels only: nothing of a package runs while it is installed.
    let pip = ["install", "--quiet", "--disable-pip-version-check", "--no-input", "--only-binary", ":all:", LITELLM];
    run(Command::new(dir.join("bin/pip")).args(pip))?;
    fs::write(&done, LITELLM).map_err(|e| format!("{}: {e}", done.display()))?;
    Ok(program)
}

fn run(command: &mut Command) -> Result<(), String> {
    let out = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    let told = String::from_utf8_lossy(&out.stderr);
    if out.status.success() { Ok(()) } else { Err(format!("{command:?}: {}", told.trim())) }
}
