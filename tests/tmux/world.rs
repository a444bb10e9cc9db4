//! A private tmux server in a temporary directory, ended with the test.

use std::{
    future::Future,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
    time::{Duration, Instant},
};

use claude_failover::{
    model::{
        ids::SessionName,
        pane::{Capture, Launch, Pane, PaneId},
    },
    ports::Terminal,
    sys::tmux::{Socket, Tmux, TmuxOptions},
};

pub struct World {
    pub dir: tempfile::TempDir,
}

impl World {
    pub fn new() -> Self {
        let version = Command::new("tmux").arg("-V").output();
        assert!(version.is_ok_and(|o| o.status.success()), "these tests need tmux 3.3a or later in PATH");
        Self { dir: tempfile::Builder::new().prefix("cf-tmux-").tempdir().expect("a temporary directory") }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn socket(&self) -> PathBuf {
        self.path("run/socket")
    }

    pub fn options(&self) -> TmuxOptions {
        TmuxOptions::new(Socket::Path(self.socket()))
    }

    pub async fn connect(&self) -> Arc<Tmux> {
        Tmux::connect(self.options()).await.expect("connecting")
    }

    /// What an operator does with the same server.
    pub fn tmux(&self, words: &[&str]) -> Output {
        self.operator(words).output().expect("running tmux")
    }

    pub fn operator(&self, words: &[&str]) -> Command {
        self.client("10", words)
    }

    /// An operator's tmux that is ended after so many seconds.
    pub fn client(&self, seconds: &str, words: &[&str]) -> Command {
        std::fs::create_dir_all(self.path("run")).expect("the socket's directory");
        let mut command = Command::new("timeout");
        command.args([seconds, "tmux", "-u", "-f", "/dev/null", "-S"]).arg(self.socket()).args(words);
        command.env_remove("TMUX");
        command
    }

    pub fn says(&self, words: &[&str]) -> String {
        let output = self.tmux(words);
        assert!(output.status.success(), "tmux {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8").trim_end().to_owned()
    }

    /// Processes whose command line has this world's directory in it.
    pub fn processes(&self) -> Vec<(u32, String)> {
        let mine = self.dir.path().to_str().expect("UTF-8").to_owned();
        let entries = std::fs::read_dir("/proc").expect("/proc");
        entries
            .filter_map(|e| e.ok()?.file_name().to_str()?.parse::<u32>().ok())
            .filter_map(|pid| {
                Some((
                    pid,
                    String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/cmdline")).ok()?).replace('\0', " "),
                ))
            })
            .filter(|(_, line)| line.contains(&mine))
            .collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        use nix::{sys::signal, unistd::Pid};
        // The directory's name is random: only this test's server, clients and programs carry it.
        for (pid, _) in self.processes() {
            let pid = Pid::from_raw(pid.cast_signed());
            let _gone = signal::kill(pid, signal::Signal::SIGKILL);
        }
    }
}

pub fn session(name: &str) -> SessionName {
    SessionName::parse(name).expect("a session's name")
}

pub fn launch(name: &str, argv: &[&str]) -> Launch {
    Launch {
        session: session(name),
        incarnation: format!("inc-{name}"),
        argv: argv.iter().map(|&word| word.to_owned()).collect(),
        env: Vec::new(),
        workdir: PathBuf::from("/"),
        keep_dead: true,
    }
}

pub fn sh(name: &str, script: &str) -> Launch {
    launch(name, &["/bin/sh", "-c", script])
}

/// tmux's own id in a pane's id.
pub fn tmux_id(pane: &PaneId) -> &str {
    pane.0.split('@').next().expect("an id")
}

pub async fn screen(tmux: &Tmux, pane: &PaneId) -> String {
    let mut screens = tmux.capture(std::slice::from_ref(pane), Capture::Plain).await.expect("capturing");
    screens.pop().expect("one answer").expect("a screen")
}

pub async fn pane(tmux: &Tmux, name: &str) -> Option<Pane> {
    tmux.panes().await.expect("panes").into_iter().find(|pane| pane.session.as_str() == name)
}

/// Waits for a condition.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut check: impl FnMut() -> F) -> T {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(Instant::now() < until, "still not so: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub async fn file(path: &Path) -> String {
    eventually(&format!("{} is there", path.display()), || async {
        std::fs::read_to_string(path).ok().filter(|t| t.ends_with('\n'))
    })
    .await
}

pub fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z") && !rest.starts_with(" X"))
}
