//! Moving every session to another account: stop and start of 10 and 50 agents that cost nothing; beside it, tmux told to do
//! the same in one go.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    measure::{Samples, cpu_of, family, monotonic, ms, ratio, row, wanted},
    stub,
    world::{Setup, World, tmux},
};

const SESSIONS: [u32; 2] = [10, 50];
const ROUNDS: usize = 9;
const TIMES_LONGER: f64 = 2.0;
/// What a swap stirs up has died down by then.
const QUIET: Duration = Duration::from_secs(2);
/// What tmux or a shell adds to the environment by itself.
const NOT_PASSED: [&str; 8] =
    ["TMUX", "TMUX_PANE", "TERM", "TERM_PROGRAM", "TERM_PROGRAM_VERSION", "PWD", "OLDPWD", "SHLVL"];

pub fn run() -> io::Result<()> {
    for sessions in SESSIONS {
        for at_task in [false, true] {
            once(sessions, at_task)?;
        }
    }
    Ok(())
}

fn once(sessions: u32, at_task: bool) -> io::Result<()> {
    let mut world = World::prepare()?;
    let stamps = world.path("stamps");
    let setup = Setup {
        sessions,
        accounts: 2,
        program: Some(std::env::current_exe()?),
        agent: format!("args: [{}], ", stub::STUB),
        env: format!("STUB_HOOKS: {}, STUB_STAMPS: {}", world.path("state/hooks").display(), stamps.display()),
        // The time that agents are given to come to rest is not the supervisor's own.
        more: "switcher: {save_grace: 0s}\n".to_owned(),
        ..Setup::default()
    };
    world.begin(&setup)?;
    let state = if at_task { "working" } else { "idle" };
    if at_task {
        for n in 0..sessions {
            fs::write(world.mount(&format!("inbox/t{n}.md")), format!("task {n}\n"))?;
        }
    }
    let names = world.sessions();
    let settled = |world: &World, account: &str| {
        let is = |name: &String, file: &str, word: &str| world.word(&format!("sessions/{name}/{file}")) == word;
        names.iter().all(|name| is(name, "account", account) && is(name, "state", state))
    };
    world.until("every agent", |world| settled(world, "a0"))?;
    // From here on they are started as a swap starts them.
    let (mut ours, mut told, mut theirs, mut cpu) =
        (Samples::default(), Samples::default(), Samples::default(), Samples::default());
    let mut ratios = Vec::new();
    let mut tmux: Option<OneGo> = None;
    for round in 0..=ROUNDS {
        std::thread::sleep(QUIET);
        let to = format!("a{}", (round + 1) % 2);
        let daemon = family(world.daemon_pid());
        let (before, begun) = (cpu_of(&daemon), monotonic());
        // Answers when it is done, or after a while; what became of it is asked of the events.
        let _answer = fs::write(world.mount("accounts/active"), format!("{to}\n"));
        let done = format!("swap {} from ", round + 1);
        let mut done_at = 0;
        world.until("the swap", |world| {
            done_at = monotonic();
            world.events().lines().any(|line| line.contains(&done) && line.contains(" done in "))
        })?;
        let started = last(&world, &stamps, begun, names.len())?;
        let spent = cpu_of(&daemon).saturating_sub(before);
        world.until("every agent", |world| settled(world, &to))?;
        // The first one only gives the others their form.
        let Some(tmux) = &mut tmux else {
            tmux = Some(OneGo::start(&world, &names)?);
            continue;
        };
        std::thread::sleep(QUIET);
        let one_go = tmux.round(&world)?;
        ours.push(started);
        told.push(Duration::from_nanos(done_at - begun));
        theirs.push(one_go);
        cpu.push(spent);
        ratios.push(ratio(started, one_go));
    }
    ratios.sort_by(f64::total_cmp);
    let longer = ratios.get(ratios.len() / 2).copied().unwrap_or_default();
    row(
        &format!("swap: {sessions} agents {} stopped and started", if at_task { "at a task" } else { "at rest" }),
        &ours.show(),
        &format!("one tmux connection: {}", theirs.show()),
        &format!("{longer:.2} (median of {} pairs)", ratios.len()),
        &wanted(&format!("≤ {TIMES_LONGER}"), longer <= TIMES_LONGER),
    );
    row("… until the swap is told as done", &told.show(), "", "", "");
    row("… CPU of the daemon a session", &ms(cpu.median() / sessions), "", "", "");
    Ok(())
}

/// From `begun` until the last of so many screens stood.
fn last(world: &World, stamps: &Path, begun: u64, count: usize) -> io::Result<Duration> {
    let mut last = 0;
    world.until("every start", |_| {
        let starts = stub::starts(stamps, begun);
        last = starts.iter().copied().max().unwrap_or_default();
        starts.len() >= count
    })?;
    Ok(Duration::from_nanos(last - begun))
}

/// The same agents in a tmux server of their own, and one control connection to it.
struct OneGo {
    socket: PathBuf,
    stamps: PathBuf,
    client: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// What starts each again, all in one text.
    commands: String,
    count: usize,
}

impl OneGo {
    /// Copies of the agents of these sessions: the same words and the same environment.
    fn start(world: &World, names: &[String]) -> io::Result<Self> {
        let dir = world.path("one-go");
        fs::create_dir(&dir)?;
        let (socket, stamps) = (dir.join("tmux.sock"), dir.join("stamps"));
        tmux(&socket, &["-f", "/dev/null", "new-session", "-d", "-s", "keeper", "sleep", "2147483647"])?;
        tmux(&socket, &["set-option", "-g", "remain-on-exit", "on"])?;
        let mut commands = String::new();
        for name in names {
            let pid = world.word(&format!("sessions/{name}/pid"));
            let of = |file: &str| {
                Ok::<_, io::Error>(String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/{file}"))?).into_owned())
            };
            let mut words =
                vec!["respawn-pane".to_owned(), "-k".into(), "-t".into(), format!("={name}:"), "-c".into(), "/".into()];
            for pair in of("environ")?.split_terminator('\0') {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                if NOT_PASSED.contains(&key) {
                    continue;
                }
                let pair = match key {
                    "STUB_HOOKS" => format!("{key}={}", dir.display()),
                    "STUB_STAMPS" => format!("{key}={}", stamps.display()),
                    _ => format!("{key}={value}"),
                };
                words.extend(["-e".to_owned(), pair]);
            }
            let script = r#"trap 'sleep 0.2' EXIT; cd -- "$0" && exec "$@""#;
            let web = world.path("web").display().to_string();
            words.extend(["--", "/bin/sh", "-c", script, &web].map(str::to_owned));
            words.extend(of("cmdline")?.split_terminator('\0').map(str::to_owned));
            let quoted: Vec<String> = words.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect();
            commands.push_str(&(quoted.join(" ") + "\n"));
            tmux(&socket, &["new-session", "-d", "-s", name, "-x", "100", "-y", "30", "sleep", "2147483647"])?;
        }
        let mut client = Command::new("tmux")
            .arg("-S")
            .arg(&socket)
            .args(["-C", "attach-session", "-t", "=keeper:"])
            .env_remove("TMUX")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let pipes = client.stdin.take().zip(client.stdout.take());
        let (input, output) = pipes.ok_or_else(|| io::Error::other("no pipes"))?;
        let mut this =
            Self { socket, stamps, client, input, output: BufReader::new(output), commands, count: names.len() };
        this.round(world)?;
        Ok(this)
    }

    /// Until the last of them is at its prompt.
    fn round(&mut self, world: &World) -> io::Result<Duration> {
        let begun = monotonic();
        self.input.write_all(self.commands.as_bytes())?;
        self.input.write_all(b"display-message -p the-end\n")?;
        let mut line = String::new();
        let deadline = Instant::now() + Duration::from_secs(60);
        while line.trim_end() != "the-end" {
            line.clear();
            if self.output.read_line(&mut line)? == 0 || line.starts_with("%error") || Instant::now() > deadline {
                return Err(io::Error::other(format!("tmux did not do it all: {line}")));
            }
        }
        last(world, &self.stamps, begun, self.count)
    }
}

impl Drop for OneGo {
    fn drop(&mut self) {
        let _ = tmux(&self.socket, &["kill-server"]);
        let _ = self.client.wait();
    }
}
