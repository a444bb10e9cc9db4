//! Property tests: the same reports in any order, from all sources or some, up to a moment late, give the same
//! verdict.

use std::time::Duration;

use jiff::Timestamp;
use proptest::{prelude::*, sample::subsequence};

use super::{
    classify::{Settings, classify},
    history::History,
    over::{Facts, Over, over},
};
use crate::model::{
    evidence::{Failure, Look, Meaning, Signal, Source, WaitingFor},
    limit::{Limit, LimitKind},
    samples,
    session::Activity,
    task::{Delivery, Run},
};

const SETTINGS: Settings =
    Settings { stalled_after: Duration::from_secs(10_000), background_for: Duration::ZERO, confirm: 2 };
const FACTS: Facts = Facts { tells: true, gone: false, background_for: Duration::ZERO };
/// When the turn begins, in milliseconds.
const BEGUN: i64 = 100_000;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(1_000_000_000 + millis).expect("a time")
}

fn signal(source: Source, millis: i64, meaning: Meaning) -> Signal {
    Signal { at: at(millis), source, rule: "r".into(), text: "a question".into(), meaning }
}

fn run() -> Run {
    Run {
        claimed: at(BEGUN - 1000),
        typed: Some(at(BEGUN - 500)),
        delivery: Delivery::Taken { at: at(BEGUN + 20) },
        ..samples::run()
    }
}

/// How the turn really ended.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Well,
    Limit,
    Login,
    Server,
    Request,
    Refused,
    Interrupted,
}

impl End {
    fn meaning(self) -> Meaning {
        let failed = |failure| Meaning::TurnFailed { failure, message: "m".into() };
        match self {
            Self::Well => Meaning::TurnEnded { message: Some("m".into()), background: 0, shells: Vec::new() },
            Self::Limit => failed(Failure::Limit(Limit { kind: LimitKind::FiveHour, resets_at: None })),
            Self::Login => failed(Failure::Login),
            Self::Server => failed(Failure::Server),
            Self::Request => failed(Failure::Request),
            Self::Refused => failed(Failure::Refused),
            Self::Interrupted => Meaning::Interrupted,
        }
    }

    fn expected(self) -> (Activity, Option<Over>) {
        let error = || "m".to_owned();
        match self {
            Self::Well => (Activity::Idle, Some(Over::Done { message: Some("m".into()), left: Vec::new() })),
            Self::Limit | Self::Login => (Activity::Limited, None),
            Self::Server => (Activity::Idle, Some(Over::Server { error: error() })),
            Self::Request | Self::Refused => (Activity::Idle, Some(Over::Failed { error: error() })),
            Self::Interrupted => (Activity::Waiting(WaitingFor::Interrupted), None),
        }
    }
}

/// What one source told, in its own order.
type Line = Vec<Signal>;

/// Lines read in pieces: each number says which line is read next.
fn absorb(lines: &[Line], order: &[usize]) -> History {
    let mut history = History::default();
    let mut read = vec![0; lines.len()];
    let rest = (0..lines.len()).flat_map(|line| std::iter::repeat_n(line, lines[line].len()));
    for line in order.iter().map(|n| n % lines.len()).chain(rest) {
        if let Some(signal) = lines[line].get(read[line]) {
            read[line] += 1;
            history.absorb(signal);
        }
    }
    history
}

fn look(busy: bool) -> Look {
    let meaning = if busy { Meaning::Busy } else { Meaning::Idle };
    Look { ready: true, signals: vec![signal(Source::Title, 0, meaning)], ..Look::default() }
}

fn taken() -> Meaning {
    Meaning::PromptTaken { prompt: None }
}

fn ends() -> impl Strategy<Value = End> {
    prop_oneof![
        Just(End::Well),
        Just(End::Limit),
        Just(End::Login),
        Just(End::Server),
        Just(End::Request),
        Just(End::Refused),
        Just(End::Interrupted)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    /// However an end was told, it is not overlooked.
    #[test]
    fn an_end_is_never_overlooked(
        end in ends(),
        // How long the turn takes, how late stamps are, and how long the person's own prompt hooks take.
        turn in 300_i64..60_000, late in 0_i64..900, slow in 0_i64..30_000,
        earlier: bool, asked: bool, status: bool, hook_plain: bool,
        who in subsequence(vec![Source::Hook, Source::Transcript], 1..=2),
        order in prop::collection::vec(0_usize..3, 0..16),
    ) {
        let over_at = BEGUN + slow + turn;
        let mut hook = Line::new();
        let mut transcript = Line::new();
        let mut file = vec![signal(Source::StatusFile, BEGUN - 50_000, Meaning::Idle)];
        if earlier {
            for (line, source) in [(&mut hook, Source::Hook), (&mut transcript, Source::Transcript)] {
                line.push(signal(source, BEGUN - 20_000, taken()));
                line.push(signal(source, BEGUN - 10_000, End::Well.meaning()));
            }
        }
        hook.push(signal(Source::Hook, BEGUN, taken()));
        // A prompt that was refused is in no transcript.
        if end != End::Refused {
            transcript.push(signal(Source::Transcript, BEGUN + slow, taken()));
        }
        file.push(signal(Source::StatusFile, BEGUN - 20, Meaning::Busy));
        if asked && end != End::Refused {
            hook.push(signal(Source::Hook, BEGUN + slow + 100, Meaning::Waiting { what: WaitingFor::Permission }));
            transcript.push(signal(Source::Transcript, BEGUN + slow + 250, Meaning::Busy));
        }
        for source in &who {
            match (source, end) {
                // Its hook tells of an end only, also where the turn failed; a second source knows better.
                (Source::Hook, End::Limit | End::Login | End::Server | End::Request) if hook_plain && who.len() == 2 => {
                    hook.push(signal(Source::Hook, over_at + late, Meaning::TurnEnded { message: None, background: 0, shells: Vec::new() }));
                }
                (Source::Hook, End::Refused) => {}
                (Source::Hook, _) => hook.push(signal(Source::Hook, over_at + late, end.meaning())),
                _ => transcript.push(signal(Source::Transcript, over_at, end.meaning())),
            }
        }
        if end == End::Refused && who == [Source::Hook] {
            transcript.push(signal(Source::Transcript, over_at, end.meaning()));
        }
        file.push(signal(Source::StatusFile, over_at + 30, Meaning::Idle));
        let lines = if status { vec![hook, transcript, file] } else { vec![hook, transcript] };
        let mut history = absorb(&lines, &order);
        let now = over_at + 15_000;
        history.see(&look(false), at(now));
        let verdict = classify(&history, true, true, at(now), SETTINGS, at(now));
        prop_assert_eq!((verdict.activity, over(&history, &run(), FACTS, at(now))), end.expected(), "{:#?}", history);
        // Nor where the clock was set back since.
        let over_back = over(&history, &run(), FACTS, at(now - 45_000));
        prop_assert_eq!(over_back, end.expected().1);
    }

    /// A question is told, whoever tells of it and whatever was told before.
    #[test]
    fn a_question_is_never_overlooked(
        waited in 6_i64..300, status: bool, shown in 0_u8..4,
        who in subsequence(vec![Source::Hook, Source::Title, Source::Screen], 1..=3),
        order in prop::collection::vec(0_usize..3, 0..12),
    ) {
        let asks = || Meaning::Waiting { what: WaitingFor::Question };
        let mut hook = vec![signal(Source::Hook, BEGUN, taken())];
        let transcript = vec![signal(Source::Transcript, BEGUN, taken()), signal(Source::Transcript, BEGUN + 300, Meaning::Busy)];
        if who.contains(&Source::Hook) {
            hook.push(signal(Source::Hook, BEGUN + 500, asks()));
        }
        let mut file = vec![signal(Source::StatusFile, BEGUN, Meaning::Busy)];
        if shown > 1 {
            file.push(signal(Source::StatusFile, BEGUN + 500, asks()));
        }
        let lines = if status { vec![hook, transcript, file] } else { vec![hook, transcript] };
        let mut history = absorb(&lines, &order);
        let looks: Vec<Signal> =
            who.iter().filter(|s| **s > Source::Transcript).map(|s| signal(*s, BEGUN + 600, asks())).collect();
        let look = Look { signals: looks, ..Look::default() };
        history.see(&look, at(BEGUN + 600));
        let now = at(BEGUN + 600 + waited * 1000);
        history.see(&look, now);
        let verdict = classify(&history, true, false, now, SETTINGS, now);
        prop_assert_eq!(verdict.activity, Activity::Waiting(WaitingFor::Question), "{:#?}", history);
        prop_assert_eq!(over(&history, &run(), FACTS, now), None);
    }

    /// Nothing is over while the agent is at work, though a hook told of an end: the person's own hooks run, and may send it on.
    #[test]
    fn nothing_is_over_before_the_agent_rests(
        status: bool, passes in 1_i64..5, each in 200_i64..30_000,
        order in prop::collection::vec(0_usize..3, 0..20),
    ) {
        let mut hook = vec![signal(Source::Hook, BEGUN, taken())];
        let mut transcript = vec![signal(Source::Transcript, BEGUN, taken())];
        for pass in 1..=passes {
            hook.push(signal(Source::Hook, BEGUN + pass * each, End::Well.meaning()));
            if status {
                transcript.push(signal(Source::Transcript, BEGUN + pass * each - 20, End::Well.meaning()));
            }
        }
        let file = vec![signal(Source::StatusFile, BEGUN, Meaning::Busy)];
        let lines = if status { vec![hook, transcript, file] } else { vec![hook, transcript] };
        let mut history = absorb(&lines, &order);
        let now = at(BEGUN + passes * each + 27_000);
        history.see(&look(!status), now);
        let verdict = classify(&history, true, true, now, SETTINGS, now);
        prop_assert_eq!((verdict.activity, over(&history, &run(), FACTS, now)), (Activity::Working, None), "{:#?}", history);
        // Then it rests.
        history.see(&look(false), now);
        history.absorb(&signal(Source::StatusFile, BEGUN + passes * each + 27_000, Meaning::Idle));
        prop_assert!(over(&history, &run(), FACTS, now).is_some());
    }
}
