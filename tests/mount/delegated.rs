//! `delegated/` and `providers/`: what is shown, and moves that are verbs.

use std::os::unix::fs::MetadataExt as _;

use crate::world::World;

fn sh(world: &World, script: &str) -> String {
    let out = world.bash(script);
    assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// The words of a script that fails.
fn refused(world: &World, script: &str) -> String {
    let out = world.bash(script);
    assert!(!out.status.success(), "{script} is not refused");
    String::from_utf8_lossy(&out.stderr).into_owned()
}

#[test]
fn what_is_at_a_provider_is_shown() {
    let world = World::new();
    std::fs::write(world.real("inbox/sent.md"), "Do it there.\n").expect("written");
    assert_eq!(
        sh(&world, "ls delegated projects/web/delegated | tr '\\n' ' '"),
        "delegated: sent.json sent.md  projects/web/delegated: sent.json sent.md "
    );
    assert_eq!(sh(&world, "ls projects/api/delegated"), "");
    assert_eq!(sh(&world, "cat delegated/sent.md"), "Do it there.\n");
    let json: serde_json::Value =
        serde_json::from_str(&sh(&world, "cat projects/web/delegated/sent.json")).expect("JSON");
    assert_eq!((json["provider"].as_str(), json["state"].as_str()), (Some("gemini"), Some("delegated")), "{json}");
    assert_eq!(
        sh(&world, "cat tasks/sent/state providers/gemini/state providers/gpu/state"),
        "delegated\nusable\nexhausted\n"
    );
    assert!(sh(&world, "cat providers/gpu/why").contains("tried again at"));
    let jobs = sh(&world, "cat providers/gemini/jobs");
    assert!(jobs.starts_with("sent "), "{jobs:?}");
    let counters: serde_json::Value =
        serde_json::from_str(&sh(&world, "cat providers/gemini/counters.json")).expect("JSON");
    assert_eq!(counters, serde_json::json!({"active": 1, "completed": 2, "failed": 1, "cost_usd": 0.25}));
    // What its provider has shown so far.
    let result = sh(&world, "cat tasks/sent/result.md");
    assert!(!result.is_empty() && !result.contains('\u{1b}'), "{result:?}");
}

#[test]
fn mv_sends_and_takes_back() {
    let world = World::new();
    std::fs::write(world.mnt().join("projects/api/inbox/only.md"), "Later.\n").expect("written");
    std::fs::write(world.real("inbox/sent.md"), "Sent.\n").expect("written");
    let own = |path: &str| std::fs::metadata(world.mnt().join(path)).expect(path).ino();
    let before = own("projects/api/inbox/only.md");
    sh(&world, "mv projects/api/inbox/only.md projects/api/delegated/");
    world.wait_for_call(&["Wish(", "only", "Provider(None)"]);
    // It is shown in both, and what stands in the inbox is still a person's file.
    assert_eq!(
        sh(&world, "cat projects/api/inbox/only.md projects/api/delegated/only.md; ls projects/api/delegated/only.*"),
        "Later.\nLater.\nprojects/api/delegated/only.json\nprojects/api/delegated/only.md\n"
    );
    assert_eq!(own("projects/api/inbox/only.md"), before);
    assert_ne!(own("projects/api/delegated/only.md"), before, "a rename between two names of one file does nothing");
    sh(&world, "mv projects/web/delegated/sent.md projects/web/inbox/");
    world.wait_for_call(&["Wish(", "sent", "Here"]);
    assert_eq!(
        sh(&world, "ls delegated | grep -c sent || true; cat inbox/sent.md; echo more >> inbox/sent.md"),
        "0\nSent.\n"
    );
    assert_eq!(std::fs::read_to_string(world.real("inbox/sent.md")).expect("text"), "Sent.\nmore\n");
    sh(&world, "mv -f projects/api/delegated/only.md projects/api/inbox/");
    world.wait_for_call(&["Wish(", "only", "Here"]);
}

#[test]
fn nothing_else_is_moved_or_made_there() {
    let world = World::new();
    for name in ["inbox/fix.md", "inbox/sent.md", "inbox/stranger.md", "drafts/draft.md"] {
        std::fs::write(world.real(name), "x\n").expect("written");
    }
    for (script, why) in [
        ("mv inbox/fix.md delegated/other.md", "Operation not permitted"),
        ("mv delegated/sent.json inbox/", "Operation not permitted"),
        ("mv delegated/sent.md inbox/other.md", "Operation not permitted"),
        ("mv projects/web/inbox/fix.md projects/api/delegated/", "Operation not permitted"),
        ("mv inbox/stranger.md delegated/", "No such file"),
        ("mv drafts/draft.md delegated/", "Operation not permitted"),
        ("mv delegated/sent.md drafts/", "Operation not permitted"),
        ("mv delegated/sent.md projects/web/delegated/sent2.md", "Operation not permitted"),
        ("rm -f delegated/sent.md", "Operation not permitted"),
        ("echo x > delegated/new.md", "Operation not permitted"),
        ("mkdir delegated/dir", "Operation not permitted"),
    ] {
        let said = refused(&world, script);
        assert!(said.contains(why), "{script}: {said}");
    }
    for name in ["inbox/fix.md", "inbox/sent.md", "inbox/stranger.md", "drafts/draft.md"] {
        assert_eq!(std::fs::read_to_string(world.real(name)).expect(name), "x\n");
    }
    assert!(!world.calls().contains("Wish("), "{}", world.calls());
}
