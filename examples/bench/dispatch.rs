//! From `rename(2)` of a ready file to the first byte of its prompt at the agent; beside it, the obvious shell script.

use std::{
    fs, io,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    measure::{Samples, monotonic, ms, ratio, row, wanted},
    reader,
    world::{Setup, World, tmux},
};

const TIMES: usize = 100;
const WANTED: Duration = Duration::from_millis(20);
/// What was stirred up before a measurement has died down by then.
const QUIET: Duration = Duration::from_millis(150);

pub fn run() -> io::Result<()> {
    let mut world = World::prepare()?;
    let stamps = world.path("stamps");
    let program = reader::script(&world.path("home"), &stamps)?;
    world.configure(&Setup { sessions: 1, program: Some(program), ..Setup::default() })?;
    world.run()?;
    world.until("the agent to be ready", World::all_idle)?;
    let script = Script::start(&world)?;
    let (mut ours, mut theirs, mut renames) = (Samples::default(), Samples::default(), Samples::default());
    for i in 0..TIMES {
        let half = world.mount(&format!("inbox/.{i}.part"));
        fs::write(&half, format!("task number {i}\n"))?;
        std::thread::sleep(QUIET);
        let begun = monotonic();
        fs::rename(&half, world.mount(&format!("inbox/t{i}.md")))?;
        renames.push(Duration::from_nanos(monotonic() - begun));
        ours.push(arrival(&world, &stamps, begun, "task number")?);

        theirs.push(script.once(&world, i)?);
        world.until("the next agent to be ready", |world| {
            world.queue(&format!("done/t{i}.md")).exists() && world.all_idle()
        })?;
    }
    row(
        "dispatch: rename → first byte at the agent, settle 0",
        &ours.show(),
        &format!("inotifywait + tmux send-keys: {}", theirs.show()),
        &format!("{:.2} of the script's", ratio(ours.median(), theirs.median())),
        &wanted(&format!("≤ {}", ms(WANTED)), ours.median() <= WANTED),
    );
    row("… of which the durable rename itself", &renames.show(), "", "", "");
    Ok(())
}

/// How long after `begun` the bytes were read.
fn arrival(world: &World, stamps: &std::path::Path, begun: u64, text: &str) -> io::Result<Duration> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(at) = reader::first_after(stamps, begun, text) {
            return Ok(Duration::from_nanos(at - begun));
        }
        if Instant::now() > deadline {
            return Err(world.failure("the prompt at the agent"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A loop of inotifywait and tmux, with the same agent behind the same reader.
struct Script {
    child: Child,
    socket: PathBuf,
    stamps: PathBuf,
}

impl Script {
    fn start(world: &World) -> io::Result<Self> {
        let dir = world.path("script");
        fs::create_dir_all(dir.join("inbox"))?;
        let (socket, stamps) = (dir.join("tmux.sock"), dir.join("stamps"));
        let program = reader::script(&dir, &stamps)?;
        let agent = format!("DEMO_AGENT_HOME='{}' exec '{}'", dir.join("home").display(), program.display());
        tmux(&socket, &["-f", "/dev/null", "new-session", "-d", "-s", "agent", "-x", "100", "-y", "30", &agent])?;
        let script = "inotifywait -q -m -e moved_to --format %f inbox | while read -r f; do\n\
                      tmux -S tmux.sock send-keys -t agent -l \"$(cat \"inbox/$f\")\"; tmux -S tmux.sock send-keys -t agent Enter; done";
        let mut command = Command::new("bash");
        // A group of its own, so that all of it can be ended.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.args(["-c", script]).current_dir(&dir).stdin(Stdio::null()).spawn()?;
        let script = Self { child, socket, stamps };
        world.until("the script's agent", |_| {
            tmux(&script.socket, &["capture-pane", "-p", "-t", "agent"])
                .is_ok_and(|out| String::from_utf8_lossy(&out.stdout).contains("ready"))
        })?;
        std::thread::sleep(Duration::from_secs(1));
        Ok(script)
    }

    fn once(&self, world: &World, i: usize) -> io::Result<Duration> {
        let inbox = self.socket.with_file_name("inbox");
        let half = inbox.join(format!(".{i}.part"));
        fs::write(&half, format!("task number {i}\n"))?;
        std::thread::sleep(QUIET);
        let begun = monotonic();
        fs::rename(&half, inbox.join(format!("t{i}.md")))?;
        arrival(world, &self.stamps, begun, "task number")
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        let _ = self.child.wait();
        let _ = tmux(&self.socket, &["kill-server"]);
    }
}
