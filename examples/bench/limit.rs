//! From an agent's own record of a limit to the begin of the swap away from it.

use std::{fs, io, path::PathBuf, time::Duration};

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    measure::{Samples, ms, row, wanted},
    world::{Setup, World},
};

const TIMES: usize = 24;
/// A second that no run of this comes to.
const FAR: &str = "4000000000";

/// What the supervisor is left to see of the agent.
struct Sees {
    what: &'static str,
    /// Laid over the agent's rules.
    rules: &'static str,
    record: Record,
    within: Duration,
}

/// The first thing of the limit that can be seen.
#[derive(Clone, Copy)]
enum Record {
    /// The agent draws its screen within the same millisecond.
    Transcript,
    HookLine,
}

const SEES: [Sees; 3] = [
    Sees {
        what: "transcript, hooks, status file",
        rules: "{}",
        record: Record::Transcript,
        within: Duration::from_millis(100),
    },
    Sees {
        what: "the hook log only",
        rules: "{transcript: null, status: null}",
        record: Record::HookLine,
        within: Duration::from_millis(100),
    },
    Sees {
        what: "the screen only, read twice 0.7 s apart",
        rules: "{transcript: null, status: null, hooks: {install: none, rules: []}, \
                launch: {args: [--session-id, '{conversation}'], resume: [--resume, '{conversation}']}}",
        record: Record::Transcript,
        within: Duration::from_millis(1500),
    },
];

pub fn run() -> io::Result<()> {
    for sees in &SEES {
        let times = times(sees)?;
        let worst = times.percentile(100);
        row(
            &format!("limit recorded → swap begun; seen: {}", sees.what),
            &format!("{}, worst {}", times.show(), ms(worst)),
            "",
            "",
            &wanted(&format!("≤ {}", ms(sees.within)), worst <= sees.within),
        );
    }
    Ok(())
}

fn times(sees: &Sees) -> io::Result<Samples> {
    let mut world = World::prepare()?;
    let rules = world.path("rules.yaml");
    fs::write(&rules, sees.rules)?;
    // An account is used up by each try.
    let setup = Setup {
        sessions: 1,
        accounts: TIMES + 1,
        agent: format!("rules: {}, ", rules.display()),
        more: "quota: {reactivate_cooldown: 0s}\n".to_owned(),
        ..Setup::default()
    };
    world.begin(&setup)?;
    fs::write(world.mount("inbox/t.md"), "count\ndemo: slow=3600\n")?;
    let mut times = Samples::default();
    for n in 0..TIMES {
        let active = format!("a{n}");
        world.until(&format!("the agent to be at work under {active}"), |world| {
            world.word("sessions/pool-1/account") == active
                && world.word("sessions/pool-1/state") == "working"
                && (n == 0 || said(world, &format!("swap {n} from "), " done in ").is_some())
        })?;
        // Apart from the ticks of either side.
        std::thread::sleep(Duration::from_millis(1000 + n as u64 * 137 % 1000));
        let limit = world.path(&active).join("limit");
        fs::write(limit.with_extension("new"), FAR)?;
        fs::rename(limit.with_extension("new"), limit)?;
        let begun = format!("swap {} from {active} ", n + 1);
        world.until("the swap", |world| said(world, &begun, " begun: ").is_some())?;
        let (begun, recorded) = (said(&world, &begun, " begun: "), recorded(&world, sees.record));
        let (Some(begun), Some(recorded)) = (begun, recorded) else { return Err(world.failure("the times")) };
        times.push(Duration::try_from(begun.duration_since(recorded)).unwrap_or_default());
    }
    Ok(times)
}

/// When `events` said it.
fn said(world: &World, first: &str, then: &str) -> Option<Timestamp> {
    let events = world.events();
    let lines = events.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut times = lines.filter_map(|line| {
        let text = line["text"].as_str()?;
        (text.starts_with(first) && text.contains(then)).then_some(line["time"].as_str()?.parse().ok()?)
    });
    times.next()
}

/// When the last limit was recorded, by the record's own time.
fn recorded(world: &World, record: Record) -> Option<Timestamp> {
    let (files, time): (Vec<PathBuf>, _) = match record {
        Record::Transcript => {
            let below = |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
            let projects = below(world.path("a0/projects"));
            (projects.flat_map(below).collect(), "timestamp")
        }
        // The next start sets the log aside.
        Record::HookLine => {
            (["jsonl", "jsonl.1"].map(|end| world.path("state/hooks/pool-1").with_extension(end)).to_vec(), "at")
        }
    };
    let text: Vec<String> = files.iter().filter_map(|file| fs::read_to_string(file).ok()).collect();
    let records = text.iter().flat_map(|text| text.lines()).filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let limits = records.filter(|line| line["isApiErrorMessage"] == true || line["event"] == "StopFailure");
    limits.filter_map(|line| line[time].as_str()?.parse().ok()).max()
}
