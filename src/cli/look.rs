//! `look`: shows how an agent's rules interpret a captured screen, for authors of rules files.

use std::io::Read as _;

use jiff::{Timestamp, tz::TimeZone};

use super::{
    args::LookArgs,
    exit::{Exit, Failure},
    place,
};
use crate::{
    cli::io::Io,
    config,
    model::{evidence::Screen, ids::AgentName},
    rules::{limits::Limits, screen::explain},
};

/// # Errors
/// When the configuration, the agent, its rules or the screen can't be read.
pub fn run(args: &LookArgs, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let failed = |error: String| Failure::Failed(error);
    let file = place::config_file(&args.config, io);
    let loaded = config::load(&file, io.env).map_err(|error| failed(error.to_string()))?;
    let agent = AgentName::parse(&args.agent).ok().and_then(|name| loaded.config.agents.get(&name));
    let known = || loaded.config.agents.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let agent = agent.ok_or_else(|| failed(format!("no agent is called {:?}; known: {}", args.agent, known())))?;
    let mut plain = String::new();
    let read = if args.screen.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut plain)
    } else {
        std::fs::File::open(&args.screen).and_then(|mut file| file.read_to_string(&mut plain))
    };
    read.map_err(|error| failed(format!("{} can't be read: {error}", args.screen.display())))?;
    if let Some(problem) = agent.kind.problem() {
        return Err(failed(problem.to_owned()));
    }
    let (rules, zone) = (agent.kind.rules(), TimeZone::system());
    let screen = Screen { title: args.title.clone(), plain };
    let shown = explain(&rules.screen, Limits { rules: &rules.limits, zone: &zone }, &screen, Timestamp::now());
    io.out.write_all(shown.as_bytes())?;
    Ok(Exit::Ok)
}
