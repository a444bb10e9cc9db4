//! The saved state: whatever happens to the journal's bytes, nothing is lost or applied twice silently; states of
//! every version load for ever.

use std::{fs, path::Path};

use claude_failover::{
    live::{self, load},
    model::{
        ids::TaskKey,
        journal::{LoadError, Loss, Record, Recovered, State, VERSION, carry_over, recover, whole},
        provider::Delegation,
        snapshot::Snapshot,
    },
    ports::StateStore as _,
    sys::state::{StateDir, read},
};
use fastrand::Rng;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// A checkpoint, the records after it, and the state after each of them.
struct History {
    checkpoint: Vec<u8>,
    lines: Vec<Vec<u8>>,
    states: Vec<State>,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let first = rng.u64(0..1000);
        let Value::Object(mut state) = json!({
            "version": VERSION, "journal": first, "supervisor": "s", "paused": false, "event_seq": 0,
            "overrides": {"web:kept": {"held": true}},
        }) else {
            unreachable!()
        };
        let checkpoint = serde_json::to_vec_pretty(&state).expect("JSON");
        let mut history = Self { checkpoint, lines: Vec::new(), states: vec![state.clone()] };
        for seq in first + 1..=first + rng.u64(1..12) {
            let record = Self::record(seq, &mut rng);
            history.lines.push(record.line().expect("JSON"));
            record.merge_into(&mut state);
            history.states.push(state.clone());
        }
        history
    }

    fn record(seq: u64, rng: &mut Rng) -> Record {
        let mut entries = Map::new();
        for _ in 0..rng.u32(1..4) {
            let key = format!("web:{}", rng.u32(0..6));
            let text: String = (0..rng.usize(0..40)).map(|_| rng.char(..)).collect();
            entries.insert(key, if rng.bool() { Value::Null } else { json!({ "attempts": seq, "text": text }) });
        }
        let part = ["tasks", "overrides"][rng.usize(0..2)];
        let set = Map::from_iter([("event_seq".to_owned(), seq.into()), ("paused".to_owned(), rng.bool().into())]);
        Record { seq, set, put: Map::from_iter([(part.to_owned(), entries.into())]), ..Record::default() }
    }

    fn journal(&self) -> Vec<u8> {
        self.lines.concat()
    }

    fn recover(&self, journal: &[u8]) -> Recovered {
        recover(Some(&self.checkpoint), journal).expect("a checkpoint")
    }

    /// How many records end by there, and where the last of them does. The end of its line may be missing.
    fn whole_at(&self, at: usize) -> (usize, usize) {
        let mut end = 0;
        for (n, line) in self.lines.iter().enumerate() {
            if end + line.len() - 1 > at {
                return (n, end);
            }
            end += line.len();
        }
        (self.lines.len(), end)
    }
}

fn carried(state: &State) -> State {
    let mut state = state.clone();
    carry_over(&mut state);
    state
}

#[test]
fn a_journal_cut_at_any_byte_gives_all_that_is_whole_and_says_what_is_not() {
    for seed in 0..40 {
        let history = History::new(seed);
        let journal = history.journal();
        let mut torn = 0;
        for at in 0..=journal.len() {
            let (whole, end) = history.whole_at(at);
            let found = history.recover(&journal[..at]);
            assert_eq!(found.state.as_ref(), Some(&history.states[whole]), "seed {seed}, cut at {at}");
            let left = at.saturating_sub(end);
            let loss = (left > 0).then_some(Loss::Torn { bytes: left });
            assert_eq!(found.loss, loss, "seed {seed}, cut at {at}");
            torn += usize::from(loss.is_some());
        }
        assert!(torn > journal.len() / 2, "nothing was at risk");
    }
}

#[test]
fn a_tail_that_never_came_to_the_disk_is_cut_off() {
    for seed in 0..40 {
        let history = History::new(seed);
        let journal = history.journal();
        let last = history.lines.last().expect("a record").len();
        for zeros in 2..=last {
            let mut torn = journal.clone();
            let from = torn.len() - zeros;
            torn[from..].fill(0);
            let found = history.recover(&torn);
            let before = &history.states[history.states.len() - 2];
            assert_eq!(found.state.as_ref(), Some(before), "seed {seed}, {zeros} zeros");
            assert_eq!(found.loss, Some(Loss::Torn { bytes: last }), "seed {seed}, {zeros} zeros");
        }
    }
}

#[test]
fn what_was_deferred_may_be_missing_after_a_power_cut_and_what_was_synced_may_not() {
    let mut seen = 0;
    for seed in 0..40 {
        let history = History::new(seed);
        let lines = |deferred: std::ops::RangeFrom<usize>| {
            let as_written = |(n, line): (usize, &Vec<u8>)| {
                let (record, _) = whole(line).expect("a record");
                Record { deferred: deferred.contains(&n), ..record }.line().expect("JSON")
            };
            history.lines.iter().enumerate().map(as_written).collect::<Vec<_>>()
        };
        for unwritten in 0..history.lines.len() - 1 {
            // A block of it never came to the disk, and the records behind it did.
            let cut = |mut lines: Vec<Vec<u8>>| {
                lines[unwritten][4..].fill(0);
                history.recover(&lines.concat())
            };
            let found = cut(lines(unwritten..));
            assert_eq!(found.state.as_ref(), Some(&history.states[unwritten]), "seed {seed}, {unwritten}");
            assert!(matches!(found.loss, Some(Loss::Torn { .. })), "seed {seed}, {unwritten}: {:?}", found.loss);
            // A later sync was one of all before.
            let found = cut(lines(history.lines.len()..));
            assert!(matches!(found.loss, Some(Loss::Damaged { .. })), "seed {seed}, {unwritten}: {:?}", found.loss);
            seen += 1;
        }
    }
    assert!(seen > 50);
}

#[test]
fn a_flipped_byte_anywhere_is_said_and_what_was_whole_before_it_goes_on() {
    for seed in 0..40 {
        let (history, mut rng) = (History::new(seed), Rng::with_seed(seed));
        let journal = history.journal();
        for at in 0..journal.len() {
            let mut flipped = journal.clone();
            flipped[at] ^= rng.u8(1..);
            // The byte is part of the record after those that end before it.
            let ends = history.lines.iter().scan(0, |end, line| {
                *end += line.len();
                Some(*end)
            });
            let before = ends.take_while(|end| *end <= at).count();
            let found = history.recover(&flipped);
            let known = &history.states[before];
            assert_eq!(found.state, Some(carried(known)), "seed {seed}, byte {at}");
            let Some(Loss::Damaged { after, .. }) = found.loss else {
                panic!("seed {seed}, byte {at}: {:?}", found.loss)
            };
            assert_eq!(Some(after), known["journal"].as_u64(), "seed {seed}, byte {at}");
            assert!(!found.state.expect("a state").contains_key("tasks"), "who works on what is not known");
        }
    }
}

#[test]
fn a_crash_between_checkpoint_and_truncation_doubles_nothing() {
    for seed in 0..40 {
        let history = History::new(seed);
        let journal = history.journal();
        for state in &history.states {
            let checkpoint = serde_json::to_vec(state).expect("JSON");
            let found = recover(Some(&checkpoint), &journal).expect("a checkpoint");
            assert_eq!(found, Recovered { state: history.states.last().cloned(), loss: None }, "seed {seed}");
        }
    }
}

#[test]
fn a_record_that_is_missing_is_said_and_one_that_is_there_twice_counts_once() {
    let mut seen = 0;
    for seed in 0..40 {
        let history = History::new(seed);
        for gone in 0..history.lines.len() - 1 {
            let mut lines = history.lines.clone();
            lines.remove(gone);
            let found = history.recover(&lines.concat());
            assert!(matches!(found.loss, Some(Loss::Damaged { .. })), "seed {seed}, without {gone}");
            assert_eq!(found.state, Some(carried(&history.states[gone])), "seed {seed}, without {gone}");
            seen += 1;
        }
        let mut lines = history.lines.clone();
        lines.extend(history.lines.clone());
        let found = history.recover(&lines.concat());
        assert_eq!(found, Recovered { state: history.states.last().cloned(), loss: None }, "seed {seed}");
    }
    assert!(seen > 50);
}

#[test]
fn a_journal_without_its_checkpoint_is_no_state() {
    let history = History::new(1);
    assert_eq!(recover(None, b""), Ok(Recovered::default()));
    let found = recover(None, &history.journal()).expect("no checkpoint");
    assert!(found.state.is_none() && matches!(found.loss, Some(Loss::Damaged { after: 0, .. })));
}

#[test]
fn a_newer_state_is_refused_and_what_is_none_is_broken() {
    let newer = json!({"version": VERSION + 1}).to_string();
    let told = recover(Some(newer.as_bytes()), b"").expect_err("refused");
    assert_eq!(told, LoadError::Newer { found: VERSION + 1 });
    assert!(told.to_string().contains("start the newer daemon"), "{told}");
    for broken in ["", "{", "[]", "{}", "{\"version\": \"1\"}", "{\"version\": 1, \"runs\": 7}", "{\"version\": 2} x"] {
        assert!(matches!(recover(Some(broken.as_bytes()), b""), Err(LoadError::Broken(_))), "{broken}");
    }
}

#[tokio::test]
async fn what_was_saved_is_found_again_and_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let temp = tempfile::tempdir().expect("a directory");
    let history = History::new(3);
    {
        let store = StateDir::open(temp.path()).expect("open");
        assert!(store.append(&history.lines[0], true).await.is_err(), "a daemon begins with a checkpoint");
        store.checkpoint(&history.checkpoint).await.expect("saved");
        let mut len = 0;
        for line in &history.lines {
            len += line.len() as u64;
            assert_eq!(store.append(line, true).await.expect("added"), len);
        }
    }
    for name in ["state.json", "state.journal"] {
        let mode = fs::metadata(temp.path().join(name)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let stored = read(temp.path()).expect("readable");
    assert_eq!(history.recover(&stored.journal).state.as_ref(), history.states.last());

    let store = StateDir::open(temp.path()).expect("open");
    store.checkpoint(&stored.journal).await.expect("saved");
    assert_eq!(store.load().await.expect("readable").journal, b"");
    let names = store.set_aside().await.expect("set aside");
    assert_eq!(names, "state.json.unreadable.1 and state.journal.unreadable.1");
    assert_eq!(fs::read(temp.path().join("state.json.unreadable.1")).expect("kept"), stored.journal);
}

/// The world that a daemon of today makes of a saved state.
fn world(found: Recovered) -> Snapshot {
    let now = Timestamp::now();
    let world = load(found.state, Vec::new(), Vec::new(), Delegation::default(), "fresh".to_owned(), now);
    world.expect("understood").snapshot
}

fn fixture(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/state").join(name)).expect("a fixture")
}

/// Tasks of a state by name, with the words of their phases.
fn tasks(snapshot: &Snapshot) -> Vec<(String, &'static str)> {
    snapshot.tasks.values().map(|task| (task.key.to_string(), task.phase.word())).collect()
}

#[test]
fn a_state_of_0_5_0_loads() {
    let bytes = fixture("0.5.0.json");
    let old: Value = serde_json::from_slice(&bytes).expect("JSON");
    let found = recover(Some(&bytes), b"").expect("understood");
    assert_eq!(found.loss, None);
    let saved = live::clock(found.state.as_ref(), Timestamp::now()).expect("a clock");
    assert_eq!(Value::from(saved.at.to_string()), old["clock"]["at"]);
    let snapshot = world(found);
    assert_eq!(Value::from(snapshot.supervisor.as_ref()), old["supervisor"]);
    let phases = [
        ("api:long", "working"),
        ("api:second", "working"),
        ("web:cancelled", "working"),
        ("web:ended", "working"),
        ("web:sent", "delegated"),
    ];
    assert_eq!(tasks(&snapshot), phases.map(|(key, word)| (key.to_owned(), word)));
    let at_work = TaskKey::parse("api:long").and_then(|key| snapshot.tasks.get(&key)).expect("at work");
    let (run, saved) = (at_work.phase.run().expect("a run"), &old["runs"][0]["run"]);
    assert_eq!(
        (Value::from(run.id.0.clone()), Value::from(run.text.sha256.clone())),
        (saved["id"].clone(), saved["text"]["sha256"].clone())
    );
    assert_eq!(snapshot.sessions.len(), old["sessions"].as_array().expect("sessions").len());
    assert!(snapshot.sessions.values().any(|session| session.task.is_some()));
    assert_eq!(snapshot.notices.len(), old["notices"].as_array().expect("notices").len());
    assert_eq!(snapshot.starts.len(), old["starts"].as_array().expect("starts").len());
}

#[tokio::test]
async fn the_texts_of_runs_of_0_5_0_are_found_and_their_files_go_with_the_first_checkpoint() {
    let temp = tempfile::tempdir().expect("a directory");
    fs::create_dir(temp.path().join("runs")).expect("made");
    fs::write(temp.path().join("runs/5a2d-1.md"), "the text\n").expect("written");
    let store = StateDir::open(temp.path()).expect("open");
    let stored = store.load().await.expect("readable");
    assert_eq!(stored.texts.into_iter().collect::<Vec<_>>(), [("5a2d-1".to_owned(), "the text\n".to_owned())]);
    store.checkpoint(b"{}").await.expect("saved");
    assert!(!temp.path().join("runs").exists());
}

#[test]
fn a_state_of_version_2_loads_with_its_journal_whole_and_torn() {
    let (checkpoint, whole) = (fixture("2/state.json"), fixture("2/state.journal"));
    let found = recover(Some(&checkpoint), &whole).expect("understood");
    assert_eq!(found.loss, None);
    assert_eq!(tasks(&world(found)), [("api:long".to_owned(), "working"), ("api:second".to_owned(), "working")]);
    let torn = recover(Some(&checkpoint), &fixture("2/torn.journal")).expect("understood");
    assert!(matches!(torn.loss, Some(Loss::Torn { .. })), "{:?}", torn.loss);
    assert_eq!(tasks(&world(torn)).len(), 2);
}
