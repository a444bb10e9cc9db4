//! Resolves which mount a command refers to, from arguments, configuration and environment. Contacts nobody and mounts
//! nothing.

use std::path::{Path, PathBuf};

use super::{
    args::{ConfigArg, MountArgs},
    mount::Mount,
};
use crate::{
    cli::io::Io,
    config::{self, paths},
};

/// The configuration file: the one named, else the default place.
pub fn config_file(arg: &ConfigArg, io: &Io<'_>) -> PathBuf {
    arg.config.clone().unwrap_or_else(|| paths::config_file(io.env, &Path::exists))
}

/// The mount that the arguments mean.
pub fn mount(args: &MountArgs, io: &mut Io<'_>) -> Mount {
    Mount::new(mountpoint(args, io), io.env)
}

/// `--mount`, else the configuration's, else the default. A configuration that can't be read only matters when it was named:
/// the daemon may run with an older, good one.
pub fn mountpoint(args: &MountArgs, io: &mut Io<'_>) -> PathBuf {
    if let Some(mount) = &args.mount {
        return std::path::absolute(mount).unwrap_or_else(|_| mount.clone());
    }
    let file = config_file(&args.config, io);
    match config::load(&file, io.env) {
        Ok(loaded) => loaded.config.mount.path.unwrap_or_else(|| paths::mountpoint(io.env)),
        Err(error) => {
            let missing = matches!(
                &error,
                config::LoadError::Unreadable { source, .. } if source.kind() == std::io::ErrorKind::NotFound
            );
            if !missing || args.config.config.is_some() {
                let _ = writeln!(
                    io.err,
                    "claude-failover: {error}\n  Going on with the default mount; --mount names another."
                );
            }
            paths::mountpoint(io.env)
        }
    }
}
