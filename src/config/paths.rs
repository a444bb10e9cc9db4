//! Default paths of configuration, state and mount.
//! Takes an environment lookup. Touches no file.

use std::{
    ffi::OsString,
    path::{Component, Path, PathBuf},
};

/// The environment, as a function so that a test can have its own.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The process's own environment.
#[must_use]
pub fn process_env(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// The directory's name below the XDG directories.
pub const NAME: &str = "claude-failover";

/// An absolute path from the environment; the XDG specification says to ignore relative ones.
fn dir(env: Lookup<'_>, name: &str) -> Option<PathBuf> {
    env(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// systemd gives several directories separated by `:`; the first is ours.
fn systemd_dir(env: Lookup<'_>, name: &str) -> Option<PathBuf> {
    let all = env(name)?.into_string().ok()?;
    all.split(':').map(PathBuf::from).find(|path| path.is_absolute())
}

/// The user's home directory.
#[must_use]
pub fn home(env: Lookup<'_>) -> Option<PathBuf> {
    dir(env, "HOME")
}

/// `$STATE_DIRECTORY`, else `$XDG_STATE_HOME/claude-failover`, else `~/.local/state/claude-failover`.
#[must_use]
pub fn state_dir(env: Lookup<'_>) -> PathBuf {
    systemd_dir(env, "STATE_DIRECTORY")
        .or_else(|| dir(env, "XDG_STATE_HOME").map(|d| d.join(NAME)))
        .or_else(|| home(env).map(|d| d.join(".local/state").join(NAME)))
        .unwrap_or_else(|| Path::new("/var/lib").join(NAME))
}

/// `$RUNTIME_DIRECTORY/claude-failover`, else `$XDG_RUNTIME_DIR/claude-failover`, else `/run/claude-failover`.
///
/// With systemd's own `RuntimeDirectory=claude-failover` the mount is that directory.
#[must_use]
pub fn mountpoint(env: Lookup<'_>) -> PathBuf {
    systemd_dir(env, "RUNTIME_DIRECTORY")
        .map(|d| if d.ends_with(NAME) { d } else { d.join(NAME) })
        .or_else(|| dir(env, "XDG_RUNTIME_DIR").map(|d| d.join(NAME)))
        .unwrap_or_else(|| Path::new("/run").join(NAME))
}

/// The system-wide configuration.
pub const SYSTEM_CONFIG: &str = "/etc/claude-failover/config.yaml";

/// `$XDG_CONFIG_HOME/claude-failover/config.yaml`, else `~/.config/…`; the system-wide file when `exists` says that the
/// user has none.
#[must_use]
pub fn config_file(env: Lookup<'_>, exists: &dyn Fn(&Path) -> bool) -> PathBuf {
    let own = dir(env, "XDG_CONFIG_HOME")
        .or_else(|| home(env).map(|d| d.join(".config")))
        .map(|d| d.join(NAME).join("config.yaml"));
    match own {
        Some(own) if exists(&own) || !exists(Path::new(SYSTEM_CONFIG)) => own,
        Some(_) | None => PathBuf::from(SYSTEM_CONFIG),
    }
}

/// A path as written in a file: `~` and `~/x` from the home, relative ones from `base`; `.` and `..` are taken out.
///
/// # Errors
/// A sentence's end that says why it can't be resolved.
pub fn resolve(text: &str, base: &Path, home: Option<&Path>) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    if text.contains('\0') {
        return Err("holds a NUL".to_owned());
    }
    let path = match text.strip_prefix('~') {
        Some("") => home.ok_or("needs $HOME, which isn't set")?.to_path_buf(),
        Some(rest) if rest.starts_with('/') => {
            home.ok_or("needs $HOME, which isn't set")?.join(rest.trim_start_matches('/'))
        }
        Some(_) => return Err("names another user's home; write the directory out".to_owned()),
        None => base.join(text),
    };
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => clean.push(part),
        }
    }
    Ok(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with<'a>(rows: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<OsString> + 'a {
        move |name| rows.iter().find(|row| row.0 == name).map(|row| OsString::from(row.1))
    }

    #[test]
    fn each_place_has_its_order() {
        let rows = [
            ("HOME", "/h"),
            ("XDG_STATE_HOME", "/s"),
            ("STATE_DIRECTORY", "/var/lib/x:/y"),
            ("XDG_RUNTIME_DIR", "/run/user/1"),
            ("RUNTIME_DIRECTORY", "/run/claude-failover"),
            ("XDG_CONFIG_HOME", "/c"),
        ];
        assert_eq!(state_dir(&with(&rows)), Path::new("/var/lib/x"));
        assert_eq!(state_dir(&with(&rows[..2])), Path::new("/s/claude-failover"));
        assert_eq!(state_dir(&with(&rows[..1])), Path::new("/h/.local/state/claude-failover"));
        assert_eq!(
            state_dir(&with(&[("HOME", "/h"), ("XDG_STATE_HOME", "rel")])),
            Path::new("/h/.local/state/claude-failover")
        );
        assert_eq!(mountpoint(&with(&rows)), Path::new("/run/claude-failover"));
        assert_eq!(mountpoint(&with(&[("RUNTIME_DIRECTORY", "/run/x")])), Path::new("/run/x/claude-failover"));
        assert_eq!(mountpoint(&with(&rows[..4])), Path::new("/run/user/1/claude-failover"));
        assert_eq!(mountpoint(&with(&[])), Path::new("/run/claude-failover"));
        let none = |_: &Path| false;
        assert_eq!(config_file(&with(&rows), &none), Path::new("/c/claude-failover/config.yaml"));
        assert_eq!(config_file(&with(&rows[..1]), &none), Path::new("/h/.config/claude-failover/config.yaml"));
        assert_eq!(config_file(&with(&rows), &|p| p == Path::new(SYSTEM_CONFIG)), Path::new(SYSTEM_CONFIG));
        assert_eq!(config_file(&with(&[]), &none), Path::new(SYSTEM_CONFIG));
    }

    #[test]
    fn paths_are_resolved_from_home_and_file() {
        let resolved = |text| resolve(text, Path::new("/etc/cf"), Some(Path::new("/h")));
        assert_eq!(resolved("~"), Ok(PathBuf::from("/h")));
        assert_eq!(resolved("~/a/../b"), Ok(PathBuf::from("/h/b")));
        assert_eq!(resolved("../x/./y"), Ok(PathBuf::from("/etc/x/y")));
        assert_eq!(resolved("/../a"), Ok(PathBuf::from("/a")));
        assert!(resolved("~bob/x").is_err());
        assert!(resolved("").is_err());
        assert!(resolve("~/x", Path::new("/"), None).is_err());
    }
}
