//! `claude-failover run`: loads configuration and log, starts the runtime and the daemon.

use std::{
    io::IsTerminal as _,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
    path::Path,
    time::Duration,
};

use tracing_subscriber::EnvFilter;

use super::run::{Daemon, Place, run};
use crate::{
    cli::{Exit, RunArgs},
    config::{load::load, paths},
    daemon::fatal::Fatal,
    linux::{
        memory,
        slice::{self, Children},
    },
};

/// Variable with the log's filter, for example `claude_failover=debug`.
const LOG: &str = "CLAUDE_FAILOVER_LOG";

/// Runs the daemon that the arguments and the environment describe.
#[must_use]
pub fn main(args: &RunArgs) -> Exit {
    log(args.foreground);
    memory::keep_secrets();
    memory::return_memory();
    // Before there are other threads: they inherit it. What `check` tells of it is told nowhere else.
    let _ = slice::shorten(0, Children::Alike);
    let env = &paths::process_env;
    let file = args.config.config.clone().unwrap_or_else(|| paths::config_file(env, &|path: &Path| path.exists()));
    let config = match load(&file, env) {
        Ok(loaded) => loaded.config,
        Err(error) => return complain(&format!("{error}")),
    };
    let exe = match std::env::current_exe() {
        Ok(exe) => exe,
        Err(error) => return complain(&format!("this program's own path is not known: {error}")),
    };
    let place = Place {
        config_file: Some(file),
        state_dir: paths::state_dir(env),
        mountpoint: config.mount.path.clone().unwrap_or_else(|| paths::mountpoint(env)),
        exe,
    };
    match in_runtime(run(config, &place, announce)) {
        Ok(()) => Exit::Ok,
        Err(error) => complain(&error.to_string()),
    }
}

/// How long blocking work may still take at shutdown. Chosen: what is durable is saved before; systemd's default limit
/// is 90 s.
const END_WITHIN: Duration = Duration::from_secs(2);

/// Runs a future on the daemon's threads.
///
/// # Errors
/// The future's own, or that there can be no runtime.
pub fn in_runtime<T>(future: impl Future<Output = Result<T, Fatal>>) -> Result<T, Fatal> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| Fatal(format!("the async runtime can't be made: {error}")))?;
    let result = runtime.block_on(future);
    // Whoever waits for a disk that answers nothing is not waited for.
    runtime.shutdown_timeout(END_WITHIN);
    result
}

fn announce(daemon: &Daemon) {
    let shown = |path: Option<&Path>| {
        path.map_or_else(|| "nothing (mount.enabled is false)".to_owned(), |p| p.display().to_string())
    };
    tracing::info!(mount = %shown(daemon.mountpoint()), "ready");
    // Without a service manager this does nothing.
    if let Err(error) = tell_service_manager() {
        tracing::warn!(%error, "could not notify the service manager");
    }
}

/// sd_notify(3): the variable is the path of a socket, or `@` and its abstract name.
fn tell_service_manager() -> std::io::Result<()> {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let address = match socket.as_encoded_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(b"READY=1\n", &address).map(drop)
}

fn complain(text: &str) -> Exit {
    eprintln!("claude-failover: {text}");
    Exit::Failed
}

fn log(for_people: bool) {
    let filter = EnvFilter::try_from_env(LOG).unwrap_or_else(|_| EnvFilter::new("info"));
    // A log that can't be written (a full disk) is lost; complaining of it on the same stream would end the thread.
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false);
    if for_people {
        let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
        builder.compact().with_target(false).with_ansi(colours).init();
    } else {
        // The journal has its own times.
        builder.without_time().with_ansi(false).init();
    }
}
