//! Reads a terminal by its agent's rules: where the input box is, what is in it, what title and screen mean.
//! Takes `ScreenRules` and one `Screen`; returns a `Look`. Pure. Each pattern sees one region, never the whole screen:
//! text quoted in the agent's conversation is above the last block and is no evidence.

use std::sync::LazyLock;

use jiff::Timestamp;
use regex::Regex;

use crate::{
    model::{
        evidence::{Failure, Look, Meaning, Screen, Signal, Source, UNKNOWN_DIALOG, WaitingFor},
        snapshot::Snapshot,
    },
    render::{Picture, words},
    rules::{
        condition::shorten,
        format::{BoxShape, InputBox, Region, ScreenMeaning, ScreenRules},
        limits::Limits,
    },
};

/// A screen, cut into its regions.
#[derive(Debug, Default)]
struct Regions {
    input: Option<String>,
    last: String,
    turn: String,
    footer: String,
    /// The lines directly above and below the box.
    around: String,
    dialog: String,
    end: String,
}

/// What a screen says. Signals: what happened (failure, waiting, interruption, exit) before busy before idle, and the
/// title before the screen within each.
#[must_use]
pub fn look(rules: &ScreenRules, limits: Limits<'_>, screen: &Screen, now: Timestamp) -> Look {
    let regions = cut(rules, &screen.plain);
    let raw = regions.input.clone();
    let mut signals: Vec<Signal> = Vec::new();
    for rule in &rules.rules {
        if rule.needs_input && raw.is_none() {
            continue;
        }
        let source = if rule.region == Region::Title { Source::Title } else { Source::Screen };
        // Of one kind the first rule that matches speaks: special ones stand before general ones.
        if signals.iter().any(|s| s.source == source && same_kind(rule.mean, &s.meaning)) {
            continue;
        }
        let text = match rule.region {
            Region::Title => &screen.title,
            Region::Last => &regions.last,
            Region::Turn => &regions.turn,
            Region::Footer => &regions.footer,
            Region::Dialog => &regions.dialog,
            Region::End => &regions.end,
        };
        let Some(found) = rule.pattern.0.captures(text) else { continue };
        let whole = found.get(0).map_or("", |m| m.as_str());
        let group = found.get(1).map(|m| m.as_str().split_whitespace().collect::<Vec<_>>().join(" "));
        let meaning = match rule.mean {
            ScreenMeaning::Idle => Meaning::Idle,
            ScreenMeaning::Busy => Meaning::Busy,
            ScreenMeaning::Waiting(what) => Meaning::Waiting { what },
            ScreenMeaning::Failed(failure) => {
                let message = group.unwrap_or_else(|| shorten(whole));
                Meaning::TurnFailed { failure: failure.failure(|| limits.limit(None, None, &message, now)), message }
            }
            ScreenMeaning::Interrupted => Meaning::Interrupted,
            ScreenMeaning::Exited => Meaning::Exited { conversation: group },
        };
        // Of a dialog people want to read what it asks, not the line by which it was known.
        let text = match (rule.region, rule.mean) {
            (Region::Dialog, ScreenMeaning::Waiting(_)) => dialog_text(&regions.dialog),
            _ => shorten(whole),
        };
        signals.push(Signal { at: now, source, rule: rule.rule.clone(), text, meaning });
    }
    if rules.input.is_some() && raw.is_none() && !signals.iter().any(|s| s.source == Source::Screen) {
        signals.extend(unknown_dialog(&regions.end, now));
    }
    let busy = signals.iter().any(|s| s.meaning == Meaning::Busy);
    if busy {
        // The last block can be the echo of a prompt that quotes a failure; an agent at work has not failed. Claude Code's
        // title can look idle while it works.
        signals.retain(|s| !matches!(s.meaning, Meaning::TurnFailed { .. } | Meaning::Interrupted | Meaning::Idle));
    }
    if raw.is_some() && !busy && !signals.iter().any(|s| matches!(s.meaning, Meaning::Waiting { .. })) {
        let rule = "input-box".to_owned();
        signals.push(Signal { at: now, source: Source::Screen, rule, text: String::new(), meaning: Meaning::Idle });
    }
    signals.sort_by_key(|s| (weight(&s.meaning), s.source));
    let pasted = match (&rules.input, &raw) {
        (Some(rule), Some(text)) => rule.pasted.0.is_match(text),
        (None, _) | (_, None) => false,
    };
    let ghosts = rules.input.iter().flat_map(|rule| &rule.ghosts);
    let is_ghost = raw.as_ref().is_some_and(|text| ghosts.into_iter().any(|ghost| ghost.0.is_match(text)));
    let (input, ghost) = if is_ghost { (Some(String::new()), raw) } else { (raw, None) };
    let server_error = rules.server_error.as_ref().is_some_and(|error| error.0.is_match(&screen.plain));
    let shells =
        rules.shells.as_ref().and_then(|shells| shells.0.captures(&regions.around)?.get(1)?.as_str().parse().ok());
    Look { ready: input.is_some(), input, ghost, pasted, shells: shells.unwrap_or(0), server_error, signals }
}

/// What a program says that waits for a key, in nobody's words: a marked answer, a key that is named, a question.
static ASKS: LazyLock<Result<Regex, regex::Error>> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?im)^ +[❯›>●○◉]\s+\S|^\s*[❯›>]?\s*1[.)] \S",
        r"|\b(?:enter|return|esc|escape|any key)\b.{0,24}\b(?:to|continue|select|confirm|cancel|close)\b",
        r"|\bpress any key\b|[\[(]y(?:es)?/n(?:o)?[\])]|\?\s*\z",
    ))
});

/// A screen with neither input box nor anything that a rule knows, that asks something.
fn unknown_dialog(end: &str, at: Timestamp) -> Option<Signal> {
    let asks = ASKS.as_ref().is_ok_and(|asks| asks.is_match(end.trim_end()));
    let meaning = Meaning::Waiting { what: WaitingFor::Dialog };
    asks.then(|| Signal {
        at,
        source: Source::Screen,
        rule: UNKNOWN_DIALOG.to_owned(),
        text: dialog_text(end),
        meaning,
    })
}

/// What a dialog says, in one line, without its rules and marks.
fn dialog_text(dialog: &str) -> String {
    let said = |line: &&str| line.chars().any(char::is_alphanumeric);
    let lines: Vec<String> = dialog
        .lines()
        .filter(said)
        .map(|line| line.trim_matches(|c: char| c.is_whitespace() || "│─╌❯›".contains(c)))
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    shorten(&lines.join(" · "))
}

/// What the rules make of a screen, for people: the input box, each region, each signal with its rule.
#[must_use]
pub fn explain(rules: &ScreenRules, limits: Limits<'_>, screen: &Screen, now: Timestamp) -> String {
    let (regions, look) = (cut(rules, &screen.plain), look(rules, limits, screen, now));
    let mut out = match &look.input {
        None => "no input box\n".to_owned(),
        Some(text) if text.is_empty() => "input box: empty\n".to_owned(),
        Some(text) => format!("input box{}: {text:?}\n", if look.pasted { " (a collapsed paste)" } else { "" }),
    };
    let named = [
        ("title", &screen.title),
        ("last", &regions.last),
        ("turn", &regions.turn),
        ("footer", &regions.footer),
        ("dialog", &regions.dialog),
        ("end", &regions.end),
    ];
    for (name, text) in named.into_iter().filter(|(_, text)| !text.trim().is_empty()) {
        let lines: Vec<String> = text.lines().map(|line| format!("  | {line}\n")).collect();
        out.push_str(&format!("region {name}\n{}", lines.concat()));
    }
    let nothing = Snapshot::empty(now);
    let picture = Picture { snapshot: &nothing, now };
    for (n, signal) in look.signals.iter().enumerate() {
        let first = if n == 0 { "decides" } else { "besides" };
        out.push_str(&format!("{first}: {}\n", words::signal(&picture, signal)));
    }
    if look.signals.is_empty() {
        out.push_str("no rule matches\n");
    }
    if look.server_error {
        out.push_str("a server's error stands on the screen: a limit that only the screen shows is not believed\n");
    }
    out
}

fn same_kind(mean: ScreenMeaning, meaning: &Meaning) -> bool {
    match mean {
        ScreenMeaning::Idle => matches!(meaning, Meaning::Idle),
        ScreenMeaning::Busy => matches!(meaning, Meaning::Busy),
        ScreenMeaning::Waiting(_) => matches!(meaning, Meaning::Waiting { .. }),
        ScreenMeaning::Failed(_) | ScreenMeaning::Interrupted => {
            matches!(meaning, Meaning::TurnFailed { .. } | Meaning::Interrupted)
        }
        ScreenMeaning::Exited => matches!(meaning, Meaning::Exited { .. }),
    }
}

fn weight(meaning: &Meaning) -> u8 {
    match meaning {
        Meaning::Exited { .. } => 0,
        Meaning::TurnFailed { failure: Failure::Limit(_) | Failure::Login, .. } => 1,
        // A dialog is newer than the end of the turn above it.
        Meaning::Waiting { .. } => 2,
        Meaning::TurnFailed { .. } | Meaning::Interrupted => 3,
        Meaning::Busy => 4,
        Meaning::Started { .. } | Meaning::PromptTaken { .. } | Meaning::TurnEnded { .. } | Meaning::Used { .. } => 5,
        Meaning::Idle => 6,
    }
}

fn cut(rules: &ScreenRules, plain: &str) -> Regions {
    let plain: Vec<_> = match &rules.aside {
        Some(aside) => plain.lines().map(|line| aside.0.replace(line, "$1")).collect(),
        None => plain.lines().map(Into::into).collect(),
    };
    let lines: Vec<&str> = plain.iter().map(|line: &std::borrow::Cow<'_, str>| line.trim_end()).collect();
    let used = lines.iter().rposition(|l| !l.is_empty()).map_or(0, |i| i + 1);
    let lines = &lines[..used];
    let Some(rule) = &rules.input else {
        return Regions { end: spaces(lines), ..Regions::default() };
    };
    if lines.last().is_some_and(|line| rule.dialog_end.0.is_match(line)) {
        let start = dialog_start(rule, lines);
        let (last, turn) = last_blocks(rules, &lines[..start.saturating_sub(1)]);
        return Regions { last, turn, dialog: spaces(&lines[start..]), ..Regions::default() };
    }
    let found = match rule.shape {
        BoxShape::BetweenLines => between_lines(rule, lines),
        BoxShape::AboveFooter => above_footer(rule, lines),
        BoxShape::BelowLine => below_line(rule, lines),
        BoxShape::BesideBar => beside_bar(rule, lines),
    };
    let runs = |(_, last): &(usize, usize)| {
        rule.shell.as_ref().is_some_and(|shell| lines[*last..].iter().any(|line| shell.0.is_match(line)))
    };
    match found.filter(|found| !runs(found)) {
        Some((first, last)) => {
            let (above, below) = match rule.shape {
                BoxShape::BetweenLines => (first - 1, last + 1),
                BoxShape::AboveFooter => (first, last),
                BoxShape::BelowLine => {
                    (lines[..first].iter().rposition(|l| rule.frame.0.is_match(l)).unwrap_or(0), last)
                }
                // Below the bar are the agent's line and the frame.
                BoxShape::BesideBar => (first, last + 2),
            };
            let (last_block, turn) = last_blocks(rules, &lines[..above]);
            Regions {
                input: Some(input_text(rule, &lines[first..last])),
                around: format!("{last_block}\n{}", spaces(&lines[below..])),
                last: last_block,
                turn,
                footer: spaces(&lines[below..]),
                ..Regions::default()
            }
        }
        None => Regions { end: spaces(lines), ..Regions::default() },
    }
}

/// The box's lines as a range, when the last two frame lines enclose a prompt.
fn between_lines(rule: &InputBox, lines: &[&str]) -> Option<(usize, usize)> {
    let bottom = lines.iter().rposition(|l| rule.frame.0.is_match(l))?;
    let top = lines[..bottom].iter().rposition(|l| rule.frame.0.is_match(l))?;
    let first = lines.get(top + 1)?;
    (top + 1 < bottom && rule.prompt.0.is_match(first)).then_some((top + 1, bottom))
}

/// The box's lines as a range: from the last prompt mark to the blank line above the footer.
fn above_footer(rule: &InputBox, lines: &[&str]) -> Option<(usize, usize)> {
    let blank = lines.iter().rposition(|l| l.is_empty())?;
    let first = lines[..blank].iter().rposition(|l| rule.prompt.0.is_match(l))?;
    // Anything at the left edge below the mark is the conversation: then the mark is an old prompt.
    let box_lines = &lines[first + 1..blank];
    let footer = &lines[blank + 1..];
    let indented = |l: &&str| l.is_empty() || l.starts_with("  ");
    (box_lines.iter().all(&indented) && footer.iter().all(indented)).then_some((first, blank))
}

/// The box's lines as a range: from the prompt mark below the last frame line, nothing of the conversation between them, to
/// the blank line above the footer. Where a terminal shows all colours, edges of half blocks stand for the blank lines.
fn below_line(rule: &InputBox, lines: &[&str]) -> Option<(usize, usize)> {
    let frame = lines.iter().rposition(|l| rule.frame.0.is_match(l))?;
    let blank = lines.iter().rposition(|l| l.is_empty() || l.starts_with('▀'))?;
    let first = lines.iter().skip(frame + 1).position(|l| rule.prompt.0.is_match(l))? + frame + 1;
    let indented = |l: &&str| l.is_empty() || l.starts_with([' ', '▄', '▀']);
    (first < blank && lines[frame + 1..].iter().all(indented)).then_some((first, blank))
}

/// The box's lines as a range: the bar above the last frame line, without the bar's last line.
fn beside_bar(rule: &InputBox, lines: &[&str]) -> Option<(usize, usize)> {
    let frame = lines.iter().rposition(|l| rule.frame.0.is_match(l))?;
    let above = lines[..frame].iter().rposition(|l| !rule.prompt.0.is_match(l)).map_or(0, |i| i + 1);
    (above + 1 < frame).then_some((above, frame - 1))
}

fn input_text(rule: &InputBox, lines: &[&str]) -> String {
    let mut out: Vec<String> = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let marked = i == 0 || rule.shape == BoxShape::BesideBar;
        let text = if marked { rule.prompt.0.replace(line, "") } else { (*line).into() };
        let margin = if rule.shape == BoxShape::BelowLine { "   " } else { "  " };
        out.push(text.strip_prefix(margin).filter(|_| !marked).unwrap_or(&text).to_owned());
    }
    out.join("\n").trim().to_owned()
}

/// A dialog begins below its frame line. Without one it begins below the first gap of two empty lines under the last
/// line at the left edge, which is the conversation's. The line above the beginning belongs to neither.
fn dialog_start(rule: &InputBox, lines: &[&str]) -> usize {
    if let Some(frame) = lines.iter().rposition(|l| rule.frame.0.is_match(l)) {
        // A rule inside of a dialog divides its answers.
        let first = |lines: &[&str]| lines.iter().any(|l| l.trim_start_matches([' ', '❯', '›']).starts_with("1. "));
        let above = lines[..frame].iter().rposition(|l| rule.frame.0.is_match(l));
        return above.filter(|above| !first(&lines[frame..]) && first(&lines[*above..frame])).unwrap_or(frame) + 1;
    }
    let at_edge = |l: &&str| !l.is_empty() && !l.starts_with(' ') && !rule.prompt.0.is_match(l);
    let below = lines.iter().rposition(at_edge).map_or(0, |i| i + 1);
    let gap = lines[below..].windows(2).position(|pair| pair.iter().all(|l| l.is_empty()));
    gap.map_or(below, |i| below + i)
}

/// The last block, and the turn: the same, with the block above when the last one only says that the turn is over.
fn last_blocks(rules: &ScreenRules, lines: &[&str]) -> (String, String) {
    let (start, end) = last_block(rules, lines);
    let last = spaces(&lines[start..end]);
    let is_done = rules.done.as_ref().is_some_and(|done| done.0.is_match(&last));
    let (first, _) = if is_done { last_block(rules, &lines[..start]) } else { (start, end) };
    (last, spaces(&lines[first..end]))
}

/// The last lines up to an empty one, without frame notices, as a range.
fn last_block(rules: &ScreenRules, lines: &[&str]) -> (usize, usize) {
    let framing = |l: &&str| l.is_empty() || rules.notice.as_ref().is_some_and(|n| n.0.is_match(l));
    let end = lines.iter().rposition(|l| !framing(l)).map_or(0, |i| i + 1);
    let start = lines[..end].iter().rposition(|l| l.is_empty()).map_or(0, |i| i + 1);
    (start, end)
}

/// Joined, with plain spaces: the agents set no-break spaces behind their marks.
fn spaces(lines: &[&str]) -> String {
    lines.join("\n").replace('\u{a0}', " ")
}
