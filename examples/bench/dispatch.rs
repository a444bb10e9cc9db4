//! From `rename(2)` of a ready file to the first byte of its prompt at the agent; beside it, the obvious shell script.
//! In: a world, quiet or hammered. Out: rows.

use std::{
    fs, io,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    hammer::{self, Hammers},
    measure::{Samples, monotonic, ms, ratio, row, wanted},
    reader,
    world::{Setup, World, tmux},
};

const TIMES: usize = 100;
/// Of `hammered`: how often each of its three states comes, and how many dispatches it then lasts.
const TURNS: usize = 6;
const EACH_TURN: usize = 5;
const SLOWER: f64 = 2.0;
const WANTED: Duration = Duration::from_millis(20);
/// What was stirred up before a measurement has died down by then.
const QUIET: Duration = Duration::from_millis(150);

pub fn quiet() -> io::Result<()> {
    let mut world = World::prepare()?;
    let stamps = world.path("stamps");
    let program = reader::script(&world.path("home"), &stamps)?;
    world.configure(&Setup { sessions: 1, program: Some(program), ..Setup::default() })?;
    world.run()?;
    world.until("the agent to be ready", World::all_idle)?;
    let script = Script::start(&world)?;
    let (mut ours, mut theirs, mut renames) = (Samples::default(), Samples::default(), Samples::default());
    for i in 0..TIMES {
        let (took, renamed) = once(&world, &stamps, i)?;
        ours.push(took);
        renames.push(renamed);
        theirs.push(script.once(&world, i)?);
        all_done(&world, i)?;
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

/// The same while others do what they can to keep the mount busy, in turns with quiet.
pub fn hammered() -> io::Result<()> {
    let mut world = World::prepare()?;
    let stamps = world.path("stamps");
    let program = reader::script(&world.path("home"), &stamps)?;
    world.configure(&Setup { sessions: 1, program: Some(program), ..Setup::default() })?;
    world.run()?;
    world.until("the agent to be ready", World::all_idle)?;
    let script = Script::start(&world)?;
    let plain = world.path("plain");
    hammer::prepare(&plain)?;
    let (mut ours, mut theirs) = ([(); 3].map(|()| Samples::default()), [(); 3].map(|()| Samples::default()));
    for turn in 0..TURNS * 3 {
        let hammers = match turn % 3 {
            0 => None,
            1 => Some(Hammers::start(&world.path("mnt"))?),
            _ => Some(Hammers::start(&plain)?),
        };
        for i in (0..EACH_TURN).map(|i| turn * EACH_TURN + i) {
            ours[turn % 3].push(once(&world, &stamps, i)?.0);
            theirs[turn % 3].push(script.once(&world, i)?);
            all_done(&world, i)?;
        }
        drop(hammers);
    }
    let [quiet, mount, elsewhere] = &ours;
    row("dispatch, nobody else there", &quiet.show(), &format!("the script: {}", theirs[0].show()), "", "");
    let rows = [("the mount", mount, &theirs[1]), ("a plain directory", elsewhere, &theirs[2])];
    for (what, samples, script) in rows {
        let slower = ratio(samples.median(), quiet.median());
        row(
            &format!("… {} processes hammer {what}", hammer::PROCESSES),
            &samples.show(),
            &format!("the script: {}", script.show()),
            &format!("{slower:.1} of quiet; the script {:.1} of its own", ratio(script.median(), theirs[0].median())),
            &wanted("≤ 2", slower <= SLOWER),
        );
    }
    Ok(())
}

/// One task from its rename to the agent; how long, and how much of it the rename took.
fn once(world: &World, stamps: &std::path::Path, i: usize) -> io::Result<(Duration, Duration)> {
    let half = world.mount(&format!("inbox/.{i}.part"));
    fs::write(&half, format!("task number {i}\n"))?;
    std::thread::sleep(QUIET);
    let begun = monotonic();
    fs::rename(&half, world.mount(&format!("inbox/t{i}.md")))?;
    let renamed = Duration::from_nanos(monotonic() - begun);
    Ok((arrival(world, stamps, begun, "task number")?, renamed))
}

fn all_done(world: &World, i: usize) -> io::Result<()> {
    world
        .until("the next agent to be ready", |world| world.queue(&format!("done/t{i}.md")).exists() && world.all_idle())
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
