//! The words of a task's name and text choose its agent, by the same right as if the task had named it.

use std::fs;

use crate::world::{Setup, World};

fn world() -> World {
    let rows = "agent_by_words: [{words: [Deploy, release notes], agent: sh}, {words: [poem], agent: poet}]\n";
    let mut setup = Setup::agents(2).more(rows);
    setup.more_agents = ", sh: {kind: command, run: [bash], tasks: person}, poet: {kind: command, run: [sh, -c, \
                         'cat > /dev/null; echo roses'], tasks: anyone}"
        .to_owned();
    World::start(&setup)
}

#[test]
fn the_first_row_that_fits_decides_and_why_says_which_word() {
    let world = world();
    world.ok("echo pause > $MNT/control");
    for (id, text) in [
        ("deploy-web", "echo by its name"),
        ("b", "# Release\n# notes\necho by its text"),
        ("c", "---\nagent: poet\n---\ndeploy by word, a poet by its own"),
        ("d", "a poem on deployments"),
        ("e", "say that nothing fits"),
    ] {
        world.submit(id, text);
    }
    for (id, why) in [
        ("deploy-web", "agent sh by the word \"Deploy\" (agent_by_words)"),
        ("b", "agent sh by the word \"release notes\" (agent_by_words)"),
        ("d", "agent poet by the word \"poem\" (agent_by_words)"),
        ("e", "agent demo, the pool's: no word of agent_by_words is in its name or text"),
    ] {
        let file = format!("tasks/{id}/why");
        world.until_told(|| format!("{id}: {why}; {}", world.word(&file)), || world.word(&file).contains(why));
    }
    world.until("c to be seen", || world.word("tasks/c/state") == "queued");
    let why = world.word("tasks/c/why");
    assert!(!why.contains("by the word") && !why.contains("no word of"), "{why}");
    world.ok("echo resume > $MNT/control");
    for (id, said, agent) in [
        ("deploy-web", "by its name", "sh"),
        ("b", "by its text", "sh"),
        ("c", "roses", "poet"),
        ("d", "roses", "poet"),
        ("e", "that nothing fits", "demo"),
    ] {
        let result = world.result(&format!("done/{id}.md"));
        assert!(result.contains(said) && result.contains(&format!("\nagent: {agent}\n")), "{result}");
    }
}

#[test]
fn words_give_no_right_that_a_name_would_not() {
    let world = world();
    // Behind the mount anybody may have written it.
    fs::write(world.queue("inbox/behind.md"), "deploy: echo ran").expect("written");
    world.until_told(
        || format!("it to be held: {}", world.word("tasks/behind/why")),
        || world.word("tasks/behind/state") == "held" && world.word("tasks/behind/why").contains("agent sh"),
    );
    world.submit(
        "w",
        "---\nagent: sh\n---\ncd $CLAUDE_FAILOVER_MOUNT; echo 'deploy' > drafts/no.md; mv drafts/no.md inbox/ 2>&1\n\
         echo 'a poem' > drafts/yes.md; mv drafts/yes.md inbox/ 2>&1; echo said $?\n",
    );
    let result = world.result("done/w.md");
    assert!(result.contains("Operation not permitted") && result.contains("said 0"), "{result}");
    assert!(world.result("done/yes.md").contains("roses"), "anyone's");
    assert!(world.queue("drafts/no.md").exists() && world.queue("inbox/behind.md").exists());
    world.ok("echo release > $MNT/tasks/behind/control");
    world.until("what a person let go to end", || world.word("tasks/behind/state") != "held");
}
