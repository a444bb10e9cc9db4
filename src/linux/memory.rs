//! This process's memory: returns free memory to the system, and protects it from other processes.

use std::fs;

/// Has the allocator give large buffers back as soon as they are free. By itself glibc raises the size from which it does so
/// with each one that is freed (mallopt(3), `M_MMAP_THRESHOLD`), and then every thread that once read a task keeps its megabytes.
pub fn return_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) changes two settings of the allocator; it is called before there are other threads.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 * 1024);
        libc::mallopt(libc::M_ARENA_MAX, 4);
    }
}

/// Takes this process's environment and memory out of the reach of others of the same user, an agent among them: `/proc`
/// then belongs to root. It ends with exec(2), so children that could show the environment are not given it.
pub fn keep_secrets() {
    // It fails only for a value that the kernel doesn't know.
    let _ = nix::sys::prctl::set_dumpable(false);
}

/// Memory that is a process's own, in bytes, also where it was swapped out.
#[must_use]
pub fn memory(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |key| status.lines().find_map(|line| line.strip_prefix(key));
    let kilobytes = |text: &str| text.trim().trim_end_matches(" kB").parse::<u64>().ok();
    Some((kilobytes(field("RssAnon:")?)? + field("VmSwap:").and_then(kilobytes).unwrap_or(0)) * 1024)
}
