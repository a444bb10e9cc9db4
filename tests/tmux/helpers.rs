//! Programs that the tests run in panes and as separate processes: this test binary, started again. On their own they
//! do nothing.

use std::{
    io::{Read, Write},
    path::{Path, PathBuf},
};

use claude_failover::{
    model::pane::Launch,
    sys::tmux::{Socket, Tmux, TmuxOptions},
};

use crate::world::launch;

fn told(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from)
}

/// Words that run one helper.
pub fn helper(name: &str) -> Vec<String> {
    let own = std::env::current_exe().expect("the test binary");
    let own = own.to_str().expect("UTF-8").to_owned();
    vec![own, "--ignored".into(), "--exact".into(), format!("helpers::{name}"), "--nocapture".into()]
}

/// A program that takes `pastes` bracketed pastes in raw mode and writes all it read to `to`; `<to>.ready` says when it
/// listens.
pub fn reader(name: &str, to: &Path, pastes: usize) -> Launch {
    let mut launch = launch(name, &[]);
    launch.argv = helper("read_raw");
    launch.env =
        vec![("CF_READ_TO".into(), to.to_str().expect("UTF-8").into()), ("CF_PASTES".into(), pastes.to_string())];
    launch
}

#[test]
#[ignore = "run in a pane by other tests"]
fn read_raw() {
    use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
    let Some(to) = told("CF_READ_TO") else { return };
    let pastes: usize = std::env::var("CF_PASTES").expect("a number").parse().expect("a number");
    let stdin = std::io::stdin();
    let mut settings = tcgetattr(&stdin).expect("a terminal");
    cfmakeraw(&mut settings);
    tcsetattr(&stdin, SetArg::TCSANOW, &settings).expect("raw mode");
    print!("\x1b[?2004h");
    std::io::stdout().flush().expect("stdout");
    std::fs::write(to.with_extension("ready"), "ready\n").expect("the ready file");
    let (mut all, mut piece) = (Vec::new(), vec![0; 65_536]);
    let ends = |all: &[u8]| all.windows(6).filter(|w| w == b"\x1b[201~").count();
    let mut checked = 0;
    let mut seen = 0;
    while seen < pastes {
        let n = stdin.lock().read(&mut piece).expect("reading");
        assert!(n > 0, "the terminal closed");
        all.extend_from_slice(&piece[..n]);
        seen += ends(&all[checked..]);
        // A marker may lie across two reads.
        checked = all.len().saturating_sub(5);
    }
    let part = to.with_extension("part");
    std::fs::write(&part, &all).expect("writing");
    std::fs::rename(&part, &to).expect("renaming");
    loop {
        std::thread::park();
    }
}

#[test]
#[ignore = "run as a daemon by other tests"]
fn daemon() {
    let Some(socket) = told("CF_SOCKET") else { return };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let tmux = Tmux::connect(TmuxOptions::new(Socket::Path(socket.clone()))).await.expect("connecting");
        let client = tmux.client_pid().expect("a client");
        std::fs::write(socket.with_extension("client"), format!("{client}\n")).expect("the client file");
        std::future::pending::<()>().await;
    });
}
