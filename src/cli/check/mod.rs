//! `check`: finds everything that would keep the daemon from working, in one run.
//! Inspects the configuration and the machine; reports each problem with its place and its remedy. Changes nothing,
//! except that `--fix` creates missing queue directories, shared links of homes and their targets, the operator's
//! link, the state directory and the mountpoint.

mod bundle;
mod dirs;
mod providers;
mod report;
mod scene;
mod tools;

use report::Report;
use scene::Scene;

use super::{
    args::CheckArgs,
    exit::{Exit, Failure},
    place,
};
use crate::{
    cli::io::Io,
    config::{self, Config, Loaded, paths},
    model::{
        homes::{HomeFault, HomesReport},
        notice::Channel,
    },
};

/// # Errors
/// When the output can't be written.
pub fn run(args: &CheckArgs, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let file = place::config_file(&args.config, io);
    let mut report = Report::default();
    let loaded = match config::survey(&file, io.env) {
        Ok(loaded) => {
            report.wrong(&loaded);
            Some(loaded)
        }
        Err(error) => {
            report.unread(error.to_string());
            None
        }
    };
    let defaults = Config::default();
    let config = loaded.as_ref().map_or(&defaults, |loaded| &loaded.config);
    let point = config.mount.path.clone().unwrap_or_else(|| paths::mountpoint(io.env));
    let scene = Scene { config, env: io.env, root: nix::unistd::geteuid().is_root(), fix: args.fix, point };

    if let Some(loaded) = &loaded {
        about_file(loaded, &scene, &mut report);
        dirs::projects(&scene, &mut report);
        accounts(&(io.homes)(config, args.fix), config, &mut report);
        tools::agents(&scene, loaded, &mut report);
        providers::providers(&scene, &mut report);
        notices(config, args.notify, io, &mut report);
    }
    dirs::state(&paths::state_dir(io.env), &scene, &mut report);
    tools::tmux(&scene, &mut report);
    tools::scheduler(&mut report);
    if config.mount.enabled {
        tools::fuse(&scene, &mut report);
        dirs::mountpoint(&scene, &mut report);
    }
    if let Some(loaded) = &loaded {
        report.leave_out_doubtful(&loaded.places);
    }
    match &args.bundle {
        None => report.write(loaded.as_ref(), io.out)?,
        Some(file) => {
            let mut shown = Vec::new();
            report.write(loaded.as_ref(), &mut shown)?;
            io.out.write_all(&shown)?;
            bundle::write(file, &String::from_utf8_lossy(&shown), loaded.as_ref(), &scene.point, io)?;
        }
    }
    Ok(if report.problems() == 0 { Exit::Ok } else { Exit::Failed })
}

fn accounts(found: &HomesReport, config: &Config, report: &mut Report) {
    for made in &found.made {
        report.ok(format!("made {made}"));
    }
    for (n, account) in config.accounts.iter().enumerate() {
        if !found.faults.iter().any(|fault| fault.key == format!("accounts[{n}].home")) {
            report.ok(format!("account {}: {}", account.name, account.home.display()));
        }
    }
    for note in &found.notes {
        report.note(note);
    }
    for HomeFault { key, message, remedy, missing: _ } in &found.faults {
        report.problem(key, message, remedy);
    }
}

/// Channels that can't send; with `test`, the outcome of a test notification through each.
fn notices(config: &Config, test: bool, io: &Io<'_>, report: &mut Report) {
    let settings = &config.notifications;
    let key = |channel: Channel| format!("notifications.{}", channel.name());
    for channel in settings.channels() {
        if let Some(why) = settings.fault(channel) {
            report.problem(key(channel), why, "set it where the daemon is started, and here for `check`");
        }
    }
    if !test {
        return;
    }
    if settings.channels().is_empty() {
        let remedy = "add telegram, resend or webhook to `notifications`; config.example.yaml shows how";
        report.problem("notifications", "there is no channel for notices, so no test was sent", remedy);
    }
    for (channel, sent) in (io.notify)(config).into_iter().filter(|(channel, _)| settings.fault(*channel).is_none()) {
        match sent {
            Ok(()) => report.ok(format!("{}: took a test notice", channel.name())),
            Err(why) => report.problem(key(channel), why, "doc/TROUBLESHOOTING.md: No notice came"),
        }
    }
}

fn about_file(loaded: &Loaded, scene: &Scene<'_>, report: &mut Report) {
    use std::os::unix::fs::MetadataExt;
    if loaded.problems.is_empty() {
        report.ok(format!("{}: read", loaded.file.display()));
    }
    let config = scene.config;
    if config.projects.is_empty() {
        report.problem(
            "projects",
            "there are no projects, so there is nothing to do",
            "add {name: …, path: …} to `projects`",
        );
    }
    if config.pool.autonomous.max == 0 {
        report.problem(
            "pool.autonomous.max",
            "no session may be made, so no task is ever done",
            "set `max` to 1 or more",
        );
    }
    let accounts = config.accounts.iter().enumerate().map(|(n, account)| (format!("accounts[{n}].env"), &account.env));
    let agents = config.agents.iter().map(|(name, agent)| (format!("agents.{name}.env"), &agent.env));
    let mode = std::fs::metadata(&loaded.file).map_or(0, |meta| meta.mode());
    for (key, env) in accounts.chain(agents) {
        let names: Vec<_> = env.written_out().collect();
        if !names.is_empty() && mode & 0o044 != 0 {
            report.problem(
                key,
                format!("{} stands in a file that others can read (mode {:04o})", names.join(", "), mode & 0o7777),
                format!("chmod 600 {}, or write {{from_env: NAME}} or {{from_file: PATH}}", loaded.file.display()),
            );
        }
    }
}
