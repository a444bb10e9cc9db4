//! Other file systems to stand beside the mount: bindfs over the same real directory, and fuser's own examples `hello` and
//! `passthrough`, built from the source that cargo fetched for us.
//! In: a world. Out: directories to measure in. Dropped, everything is unmounted.

use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::world::World;

/// Size of the file that the queue and the peers show for reading in a row.
pub const LARGE: usize = 1024 * 1024;
/// bindfs that remembers nothing, as our mount remembers nothing of real files: what changes behind it shows at once.
const FORGETFUL: &str = "attr_timeout=0,entry_timeout=0,negative_timeout=0";

pub struct Peers {
    mounts: Vec<(PathBuf, Child)>,
    /// Files in memory, without a server.
    tmpfs: tempfile::TempDir,
    root: PathBuf,
}

impl Peers {
    /// Mounts all of them beside the world's queue.
    pub fn start(world: &World) -> io::Result<Self> {
        let mut peers = Self {
            mounts: Vec::new(),
            tmpfs: tempfile::Builder::new().prefix("cf-bench-").tempdir_in("/dev/shm")?,
            root: world.path("peers"),
        };
        let large = world.queue("drafts/large");
        let examples = build_examples(&large)?;
        let queue = world.queue("");
        peers.mount("hello", &examples.join("hello"), &[])?;
        peers.mount("passthrough", &examples.join("passthrough"), &[])?;
        peers.mount("bindfs", Path::new("bindfs"), &["-f".as_ref(), queue.as_os_str()])?;
        let forgetful = ["-f".as_ref(), "-o".as_ref(), FORGETFUL.as_ref(), queue.as_os_str()];
        peers.mount("bindfs-0", Path::new("bindfs"), &forgetful)?;
        Ok(peers)
    }

    /// A path below a peer's mount.
    pub fn at(&self, peer: &str, name: &str) -> PathBuf {
        self.root.join(peer).join(name)
    }

    pub fn tmpfs(&self, name: &str) -> PathBuf {
        self.tmpfs.path().join(name)
    }

    fn mount(&mut self, name: &str, program: &Path, args: &[&OsStr]) -> io::Result<()> {
        let at = self.root.join(name);
        fs::create_dir_all(&at)?;
        let mut command = Command::new(program);
        command.args(args).arg(&at).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|error| io::Error::other(format!("{}: {error}", program.display())))?;
        self.mounts.push((at.clone(), child));
        let deadline = Instant::now() + Duration::from_secs(10);
        while fs::read_dir(&at).map_or(0, Iterator::count) == 0 {
            if Instant::now() > deadline {
                return Err(io::Error::other(format!("{} does not mount", program.display())));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        for (at, child) in &mut self.mounts {
            let _ = nix::mount::umount2(at, nix::mount::MntFlags::MNT_DETACH);
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Builds a copy of fuser's examples, of the version that we are built with. `passthrough` has one file, with the content of
/// `/etc/profile` and a made-up size: here it is `large`.
fn build_examples(large: &Path) -> io::Result<PathBuf> {
    let source = fuser_source()?;
    let to = crate::world::program()?.with_file_name("bench-peers").join("fuser");
    copy_dir(&source, &to)?;
    let example = to.join("examples/passthrough.rs");
    let (from, size) = ("\"/etc/profile\"", "size: 123_456");
    let text = fs::read_to_string(&example)?;
    if !text.contains(from) || !text.contains(size) {
        return Err(io::Error::other(format!("{} is not the example that we know", example.display())));
    }
    let text = text.replace(from, &format!("{:?}", large.display().to_string()));
    fs::write(&example, text.replace(size, &format!("size: {LARGE}")))?;
    let mut build = Command::new("cargo");
    build.args(["build", "--quiet", "--release", "--example", "hello", "--example", "passthrough", "--manifest-path"]);
    build.arg(to.join("Cargo.toml")).arg("--target-dir").arg(to.with_file_name("target"));
    if !build.status()?.success() {
        return Err(io::Error::other("fuser's examples can't be built"));
    }
    Ok(to.with_file_name("target").join("release/examples"))
}

/// Where cargo keeps the source of the fuser that our lock file names.
fn fuser_source() -> io::Result<PathBuf> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let args = ["metadata", "--format-version", "1", "--manifest-path", manifest];
    let out = Command::new("cargo").args(args).stderr(Stdio::inherit()).output()?;
    let metadata: serde_json::Value = serde_json::from_slice(&out.stdout).map_err(io::Error::other)?;
    let packages = metadata["packages"].as_array().map_or(&[][..], Vec::as_slice);
    let fuser = packages.iter().find(|package| package["name"] == "fuser");
    let path = fuser.and_then(|package| Path::new(package["manifest_path"].as_str()?).parent());
    path.map(Path::to_owned).ok_or_else(|| io::Error::other("cargo metadata names no fuser"))
}

fn copy_dir(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_dir(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target).map(drop)?;
        }
    }
    Ok(())
}
