//! What the mount's operations cost, beside the file systems behind it and other FUSE servers.
//! In: one world, its peers. Out: a row an operation. All on one core, so that a wake-up on another core, which costs three
//! times as much and comes and goes, is in no figure.

use std::{
    ffi::CString,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::{
    measure::{Samples, on_one_core, ratio, row, wanted},
    peers::{LARGE, Peers},
    world::{Setup, World},
};

const ROUNDS: usize = 21;
/// How long one turn of one peer should take.
const TURN: Duration = Duration::from_millis(20);
/// Two runs of the same differ by this much.
const LEVEL: f64 = 1.1;
const SMALL: &[u8; 2048] = &[b'x'; 2048];
const LISTS: [usize; 3] = [10, 1_000, 100_000];
/// Where the same things lie in the queue, in the mount and below each peer.
const PLACES: [&str; 2] = ["drafts", "work"];

/// Servers are compared with us; the file systems behind them are only shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Ours,
    Server,
    Behind,
}

type Peer = (&'static str, Role, PathBuf);
type Operation<'a> = &'a mut dyn FnMut(&Path) -> io::Result<()>;

pub fn run() -> io::Result<()> {
    // Whatever is started meanwhile stays there too.
    on_one_core(measure)
}

fn measure() -> io::Result<()> {
    let mut world = World::prepare()?;
    fill(&world.queue(""))?;
    world.begin(&Setup { sessions: 1, ..Setup::default() })?;
    let peers = Peers::start(&world)?;
    fill(&peers.tmpfs(""))?;

    let text = shown(&world, &peers, "health");
    compare("stat of a virtual file, as programs call it", &text, &mut |path| fs::metadata(path).map(drop))?;
    compare("… asked anew (AT_STATX_FORCE_SYNC)", &text, &mut ask)?;
    compare("open, read, close of a virtual file", &text, &mut read_small)?;

    let file = stored(&world, &peers, "drafts/small");
    compare("stat of a file in the queue, as programs call it", &file, &mut |path| fs::metadata(path).map(drop))?;
    compare("… asked anew (AT_STATX_FORCE_SYNC)", &file, &mut ask)?;
    compare("open, read, close of 2 KB in the queue", &file, &mut read_small)?;
    compare("stat of a name that isn't there", &stored(&world, &peers, "drafts/nothing"), &mut |path| {
        if fs::metadata(path).is_ok() { Err(io::Error::other("there is something")) } else { Ok(()) }
    })?;

    let mut large = stored(&world, &peers, "drafts/large");
    large.push(("fuser passthrough", Role::Server, peers.at("passthrough", "passthrough")));
    let mut buffer = vec![0; 128 << 10];
    compare("open, read in a row, close of 1 MB", &large, &mut |path| {
        let (mut file, mut sum) = (File::open(path)?, 0);
        while let n @ 1.. = file.read(&mut buffer)? {
            sum += n;
        }
        if sum == LARGE { Ok(()) } else { Err(io::Error::other(format!("{sum} bytes of {}", path.display()))) }
    })?;

    for entries in LISTS {
        let list = stored(&world, &peers, &format!("drafts/{entries}"));
        let mut read = |path: &Path| {
            let found = fs::read_dir(path)?.count();
            if found == entries { Ok(()) } else { Err(io::Error::other(format!("{found} in {}", path.display()))) }
        };
        compare(&format!("readdir of {entries}"), &list, &mut read)?;
    }
    let list = stored(&world, &peers, "drafts/1000");
    compare("readdir of 1000 with a stat of each", &list, &mut |path| {
        fs::read_dir(path)?.try_for_each(|entry| entry?.metadata().map(drop))
    })?;

    let mut n = 0;
    let mut save = |path: &Path, durable: bool| -> io::Result<()> {
        n += 1;
        let half = path.join(format!(".{n}.part"));
        let mut file = File::create_new(&half)?;
        file.write_all(SMALL)?;
        file.sync_all()?;
        drop(file);
        fs::rename(half, path.join("saved"))?;
        if durable { File::open(path)?.sync_all() } else { Ok(()) }
    };
    let work = stored(&world, &peers, "work");
    compare("create, write 2 KB, fsync, close, rename in a directory of scripts", &work, &mut |path| {
        save(path, false)
    })?;
    let drafts = stored(&world, &peers, "drafts");
    let mount = world.mount("drafts");
    compare("the same with fsync of the directory; ours in drafts/, where rename does that", &drafts, &mut |path| {
        save(path, path != mount)
    })
}

/// What is measured, below a queue or beside one.
fn fill(queue: &Path) -> io::Result<()> {
    for place in PLACES {
        fs::create_dir_all(queue.join(place))?;
    }
    let drafts = queue.join("drafts");
    fs::write(drafts.join("small"), SMALL)?;
    fs::write(drafts.join("large"), vec![b'x'; LARGE])?;
    fs::write(queue.join("text"), "ok\n")?;
    for entries in LISTS {
        let dir = drafts.join(entries.to_string());
        fs::create_dir(&dir)?;
        (0..entries).try_for_each(|n| File::create(dir.join(format!("task-{n:06}.md"))).map(drop))?;
    }
    Ok(())
}

/// A text that our daemon makes, and the small files of others.
fn shown(world: &World, peers: &Peers, name: &str) -> Vec<Peer> {
    vec![
        ("ours", Role::Ours, world.mount(name)),
        ("fuser hello", Role::Server, peers.at("hello", "hello.txt")),
        ("fuser passthrough", Role::Server, peers.at("passthrough", "passthrough")),
        ("bindfs", Role::Server, peers.at("bindfs", "text")),
        ("bindfs without memory", Role::Server, peers.at("bindfs-0", "text")),
        ("ext4", Role::Behind, world.queue("text")),
        ("tmpfs", Role::Behind, peers.tmpfs("text")),
    ]
}

/// The same real file or directory, through everything that shows it.
fn stored(world: &World, peers: &Peers, name: &str) -> Vec<Peer> {
    let own = if name.starts_with("drafts") { name.to_owned() } else { format!("projects/web/{name}") };
    vec![
        ("ours", Role::Ours, world.mount(&own)),
        ("bindfs", Role::Server, peers.at("bindfs", name)),
        ("bindfs without memory", Role::Server, peers.at("bindfs-0", name)),
        ("disk", Role::Behind, world.queue(name)),
        ("tmpfs", Role::Behind, peers.tmpfs(name)),
    ]
}

/// Measures an operation at every place in turns; each turn is as many operations as fill it.
fn compare(what: &str, peers: &[Peer], operation: Operation) -> io::Result<()> {
    let mut samples = vec![Samples::default(); peers.len()];
    let mut counts = Vec::new();
    for (.., path) in peers {
        let begun = Instant::now();
        operation(path)?;
        operation(path)?;
        let one = begun.elapsed() / 2;
        counts.push(u32::try_from(TURN.as_nanos() / one.as_nanos().max(1)).unwrap_or(u32::MAX).clamp(1, 20_000));
    }
    for round in 0..ROUNDS {
        for at in (0..peers.len()).map(|at| (at + round) % peers.len()) {
            let (path, count) = (&peers[at].2, counts[at]);
            let begun = Instant::now();
            for _ in 0..count {
                operation(path)?;
            }
            samples[at].push(begun.elapsed() / count);
        }
    }
    let of = |role: Role| peers.iter().zip(&samples).filter(move |((_, is, _), _)| *is == role);
    let ours = of(Role::Ours).map(|(_, samples)| samples).next().cloned().unwrap_or_default();
    let shows = peers.iter().zip(&samples).filter(|((_, role, _), _)| *role != Role::Ours);
    let beside: Vec<String> =
        shows.map(|((name, ..), samples)| format!("{name} {}", micros(samples.median()))).collect();
    let ratios: Vec<String> = of(Role::Server)
        .map(|((name, ..), samples)| format!("{:.2} of {name}", ratio(ours.median(), samples.median())))
        .collect();
    let to_fastest = of(Role::Server).map(|(_, samples)| ratio(ours.median(), samples.median())).fold(0.0, f64::max);
    let ours = format!("{} ({} … {})", micros(ours.median()), micros(ours.min()), micros(ours.percentile(95)));
    row(
        what,
        &ours,
        &beside.join(", "),
        &ratios.join(", "),
        &wanted("level with the best server", to_fastest <= LEVEL),
    );
    Ok(())
}

fn micros(time: Duration) -> String {
    let micros = time.as_secs_f64() * 1e6;
    match micros {
        micros if micros >= 1000.0 => format!("{:.1} ms", micros / 1000.0),
        micros if micros >= 10.0 => format!("{micros:.0} µs"),
        micros => format!("{micros:.1} µs"),
    }
}

/// open, read, close: what a program does that knows how large it can be.
fn read_small(path: &Path) -> io::Result<()> {
    let mut buffer = [0; 4096];
    if File::open(path)?.read(&mut buffer)? > 0 { Ok(()) } else { Err(io::Error::other("nothing to read")) }
}

/// stat(2) that the server has to answer.
fn ask(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut facts = std::mem::MaybeUninit::<libc::statx>::uninit();
    let (flags, mask) = (libc::AT_STATX_FORCE_SYNC, libc::STATX_BASIC_STATS);
    // SAFETY: the path ends in NUL and the facts have room.
    let failed = unsafe { libc::statx(libc::AT_FDCWD, path.as_ptr(), flags, mask, facts.as_mut_ptr()) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
