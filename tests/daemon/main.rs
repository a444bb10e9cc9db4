//! The whole daemon: the real program, real tmux, a real mount, the built-in agent.
//! Every test has its own world.

#[path = "../support/disks.rs"]
mod disks;
#[path = "../support/hung_disk.rs"]
mod hung_disk;
#[path = "../support/tracer.rs"]
mod tracer;
#[path = "../support/daemon.rs"]
mod world;

mod agent_by_words;
mod bad_days;
mod budget;
mod claims;
mod clock;
mod commands;
mod covered;
mod dedicated;
mod ends;
mod every_call;
mod failover;
mod git;
mod hazards;
mod homes;
mod janitor;
mod leftovers;
mod mountpoint;
mod moves;
mod notices;
mod queue;
mod queue_claims;
mod quiet;
mod restart;
mod rights;
mod scheduling;
mod secrets;
mod sessions;
mod standstill;
mod verbs;
mod writers;
