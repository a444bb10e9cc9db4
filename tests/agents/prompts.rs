//! Texts that an agent's input box displays differently than written, or that mean something other than a prompt to
//! the agent: each arrives as a prompt on the first attempt.

use std::fs;

use crate::stage::{Cli, Play, Stage};

/// A text, and what has to be in the request that it makes.
type Text = (&'static str, &'static str);

/// What any agent's box or tmux changes.
const SHOWN: [Text; 12] = [
    ("cafe\u{301} menu", "menu"),
    ("zero\u{200b}width", "zero"),
    ("join \u{2060}er and \u{feff}", "join"),
    ("soft hy\u{ad}phen", "soft"),
    ("thumb 👍🏽 and family 👩‍👩‍👧", "thumb"),
    ("sign ⚠\u{fe0f} and 1\u{fe0f}\u{20e3}", "sign"),
    ("marks z\u{334}\u{335}\u{336}a\u{33f}lgo", "marks"),
    ("\u{202e}rtl\u{202c} behind", "behind"),
    ("हिन्दी ก็ 한국어 \u{1112}\u{1161}\u{11ab}", "한국어"),
    ("tag 🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f} flag", "flag"),
    ("？！", "？！"),
    ("nbsp\u{a0}and\u{3000}wide blank", "wide"),
];

/// What is a command, a word or an end to some agent.
const MEANT: [Text; 17] = [
    ("exit", "exit"),
    ("quit", "quit"),
    (":q", ":q"),
    (":wq!", ":wq!"),
    ("Exit", "Exit"),
    ("  exit  ", "exit"),
    ("/exit", "/exit"),
    ("!ls", "!ls"),
    ("# remember this", "remember"),
    ("& fix", "fix"),
    ("?", "?"),
    ("Explain this path: C:\\temp\\", "path"),
    ("two slashes \\\\", "slashes"),
    ("a slash and a blank \\ ", "blank"),
    ("Explain what is in @hello", "@hello"),
    ("which @sr", "@sr"),
    ("the value of $hello", "$hello"),
];

fn all_arrive(cli: Cli, more: &[Text]) {
    let Some(stage) = Stage::set(Play { sessions: 2, ..Play::new(cli) }) else { return };
    for name in ["hello.py", "hello2.py"] {
        fs::write(stage.world.path(&format!("web/{name}")), "print('hello')\n").expect("written");
    }
    let texts: Vec<Text> = SHOWN.iter().chain(&MEANT).chain(more).copied().collect();
    for (i, (text, _)) in texts.iter().enumerate() {
        stage.world.submit(&format!("p{i}"), text);
    }
    let file = |dir: &str, i: usize| fs::read_to_string(stage.world.queue(&format!("{dir}/p{i}.md"))).ok();
    let mut wrong = Vec::new();
    for (i, (text, sent)) in texts.iter().enumerate() {
        stage.until(&format!("{text:?} to end"), |_| file("done", i).or_else(|| file("failed", i)).is_some());
        let Some(result) = file("done", i) else {
            let failed = file("failed", i).unwrap_or_default();
            let error = failed.lines().find(|line| line.contains("error: ")).unwrap_or_default().to_owned();
            wrong.push(format!("{text:?}: {error}"));
            continue;
        };
        if stage.fact(&result, "attempts") != "1" {
            wrong.push(format!("{text:?}: at the second attempt"));
        }
        if stage.prompts_with(sent) == 0 {
            wrong.push(format!("{text:?}: no request"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn claude_gets_every_text_as_a_prompt() {
    all_arrive(
        Cli::Claude,
        &[("Try \"fix lint errors\"", "fix lint errors"), ("Resend your message to try again", "Resend your message")],
    );
}

#[test]
fn codex_gets_every_text_as_a_prompt() {
    all_arrive(Cli::Codex, &[("Ask Codex to do anything", "Ask Codex to do anything")]);
}
