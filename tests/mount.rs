//! The mount as users see it: real FUSE, real programs, a fake daemon behind it.

#[path = "support/hung_disk.rs"]
mod hung_disk;
#[path = "support/mount_picture.rs"]
mod picture;
#[path = "support/mount_world.rs"]
mod world;

#[path = "mount/accounts.rs"]
mod accounts;
#[path = "mount/control.rs"]
mod control;
#[path = "mount/delegated.rs"]
mod delegated;
#[path = "mount/durable.rs"]
mod durable;
#[path = "mount/hang.rs"]
mod hang;
#[path = "mount/life.rs"]
mod life;
#[path = "mount/live.rs"]
mod live;
#[path = "mount/memory.rs"]
mod memory;
#[path = "mount/model.rs"]
mod model;
#[path = "mount/queue.rs"]
mod queue;
#[path = "mount/tools.rs"]
mod tools;
#[path = "mount/tree.rs"]
mod tree;

/// The other side of `World`: not a test, but this program as the server of a mount.
#[test]
#[ignore = "run by the other tests as their server"]
fn serve_a_mount() {
    if let Some(dir) = std::env::var_os("MOUNT_SERVE") {
        world::serve(dir.as_ref());
    }
}
