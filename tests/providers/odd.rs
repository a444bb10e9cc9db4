//! Complete answers in undocumented shapes and on unusual connections.

use std::time::Duration;

use claude_failover::{
    config::ProviderKind::{self, Anthropic, Gemini, Openai},
    model::{
        evidence::Tokens,
        provider::{Answer, Progress, ProviderError, ProviderStanding},
    },
};
use serde_json::{Value, json};

use crate::{
    kinds::{Peer, STREAMING, events, good},
    server::{Server, Step, answer, chunk, chunked, event, stream},
};

async fn end_of(kind: ProviderKind, steps: Vec<Step>) -> Progress {
    let server = Server::always(steps);
    let peer = Peer::new(kind, &server.url());
    match peer.submit("run-1").await {
        Ok(job) => peer.end(&job).await,
        Err(error) => Progress::Declined(error),
    }
}

#[track_caller]
fn done(end: Progress) -> Answer {
    match end {
        Progress::Done(answer) => answer,
        Progress::Running { .. } | Progress::Failed(_) | Progress::Declined(_) | Progress::Unknown => panic!("{end:?}"),
    }
}

/// One event of chat completions.
fn delta(delta: &Value, stop: Option<&str>) -> Step {
    event(&json!({"choices": [{"delta": delta, "finish_reason": stop}]}).to_string())
}

fn openai(deltas: &[Value]) -> Vec<Step> {
    let deltas = deltas.iter().map(|one| delta(one, None));
    std::iter::once(stream()).chain(deltas).chain([delta(&json!({}), Some("stop")), event("[DONE]")]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_protocols_own_end_ends_an_answer_whatever_the_connection_does() {
    for kind in STREAMING {
        // It stays open.
        let mut open = good(kind, "whole");
        open.push(Step::Hang);
        assert_eq!(done(end_of(kind, open).await).text, "whole", "{kind:?}: left open");
        // It breaks, without the last chunk of a chunked body.
        let broken = std::iter::once(chunked()).chain(events(kind, "whole").iter().map(|data| chunk(data))).collect();
        assert_eq!(done(end_of(kind, broken).await).text, "whole", "{kind:?}: broken off");
        // A reason to stop without a last word: the usage that follows is waited for, and no longer.
        let mut silent = good(kind, "whole");
        silent.pop();
        silent.push(Step::Hang);
        if kind != Gemini {
            let answer = done(end_of(kind, silent).await);
            assert_eq!((answer.text.as_str(), answer.tokens.is_some()), ("whole", true), "{kind:?}: silent");
        }
    }
    // Without a reason to stop a broken connection is no end.
    let cut = vec![stream(), delta(&json!({"content": "half"}), None)];
    assert!(matches!(end_of(Openai, cut).await, Progress::Failed(why) if why.contains("before the answer")));
}

#[tokio::test(flavor = "multi_thread")]
async fn content_in_parts_is_joined_and_thoughts_are_passed_over() {
    let parts = openai(&[
        json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]}),
        json!({"content": [{"type": "text", "text": "first "}]}),
        json!({"content": "second", "reasoning_content": "hm"}),
        json!({"content": null}),
    ]);
    assert_eq!(done(end_of(Openai, parts).await).text, "first second");
    // What can't be shown is no half answer.
    let image = openai(&[json!({"content": "see "}), json!({"content": [{"type": "image_url", "image_url": {}}]})]);
    assert!(matches!(end_of(Openai, image).await, Progress::Failed(why) if why.contains("image_url")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_told_in_its_own_words() {
    let streamed = openai(&[json!({"refusal": "I cannot "}), json!({"refusal": "help with that."})]);
    let part = openai(&[json!({"content": [{"type": "refusal", "refusal": "I cannot help with that."}]})]);
    let whole = json!({"choices": [{"message": {"content": null, "refusal": "I cannot help with that."}, "finish_reason": "stop"}]});
    let whole = answer(200, &["content-type: application/json"], &whole.to_string());
    for steps in [streamed, part, whole] {
        let end = end_of(Openai, steps).await;
        assert!(matches!(&end, Progress::Failed(why) if why.contains("I cannot help with that.")), "{end:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_at_the_start_and_every_line_end_are_read() {
    for kind in STREAMING {
        for end in ["\n", "\r\n", "\r"] {
            let text: String = events(kind, "all of it").iter().map(|data| format!("data: {data}{end}{end}")).collect();
            let steps = vec![stream(), Step::Send(format!("\u{feff}{text}").into_bytes())];
            assert_eq!(done(end_of(kind, steps).await).text, "all of it", "{kind:?} {end:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_json_where_a_stream_was_asked_is_taken_whatever_its_header() {
    let gemini: Vec<Value> =
        events(Gemini, "whole").iter().map(|one| serde_json::from_str(one).expect("json")).collect();
    let bodies = [
        (Openai, json!({"choices": [{"message": {"content": "whole"}, "finish_reason": "stop"}]})),
        (
            Anthropic,
            json!({"type": "message", "id": "m", "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "whole"}],
                "stop_reason": "end_turn", "usage": {"input_tokens": 3, "output_tokens": 2}}),
        ),
        (Gemini, Value::Array(gemini)),
    ];
    for (kind, body) in bodies {
        for header in ["content-type: application/json", "content-type: text/event-stream", "x-none: 1"] {
            let end = end_of(kind, answer(200, &[header], &format!("\u{feff}{body:#}"))).await;
            assert_eq!(done(end).text, "whole", "{kind:?} {header}");
        }
    }
    // And a stream that is called something else.
    let text: String = events(Openai, "whole").iter().map(|data| format!("data: {data}\n\n")).collect();
    assert_eq!(done(end_of(Openai, answer(200, &["content-type: text/plain"], &text)).await).text, "whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coding_nobody_asked_for_sends_the_task_on() {
    for coding in ["gzip", "br", "x-own"] {
        let end = end_of(Openai, answer(200, &[&format!("content-encoding: {coding}")], "\u{1f}\u{8b}zzz")).await;
        let Progress::Declined(ProviderError::Out(ProviderStanding::Cooling { why, .. })) = &end else {
            panic!("{end:?}")
        };
        assert!(why.contains(coding), "{why}");
    }
    let identity = answer(
        200,
        &["content-encoding: identity"],
        r#"{"choices":[{"message":{"content":"x"},"finish_reason":"stop"}]}"#,
    );
    assert_eq!(done(end_of(Openai, identity).await).text, "x");
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_read_field_by_field() {
    let with = |usage: Value| {
        let mut steps = openai(&[json!({"content": "x"})]);
        steps.insert(3, event(&json!({"choices": [], "usage": usage}).to_string()));
        steps
    };
    let tokens = |input, output, cache_read| Some(Tokens { input, output, cache_read, cache_write: 0 });
    for (usage, expected, cost) in [
        (json!({"prompt_tokens": "12", "completion_tokens": 3.0, "cost": "0.01"}), tokens(12, 3, 0), Some(0.01)),
        (json!({"prompt_tokens": null, "completion_tokens": 3, "cost": null}), tokens(0, 3, 0), None),
        (json!({"prompt_tokens": 12, "prompt_tokens_details": {"cached_tokens": "2"}}), tokens(10, 0, 2), None),
        (json!({"prompt_tokens": -1, "completion_tokens": 1.5, "cost": "much"}), None, None),
    ] {
        let answer = done(end_of(Openai, with(usage.clone())).await);
        assert_eq!((answer.tokens, answer.cost_usd), (expected, cost), "{usage}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_context_window_is_not_called_max_tokens() {
    let steps = events(Anthropic, "long")
        .into_iter()
        .map(|data| event(&data.replace("end_turn", "model_context_window_exceeded")));
    let text = done(end_of(Anthropic, std::iter::once(stream()).chain(steps).collect()).await).text;
    assert!(text.contains("context window") && !text.contains("max_tokens"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_told_in_words_is_kept() {
    let body = r#"{"error":{"message":"Rate limit reached. Please try again in 7m12s.","code":"rate_limit_exceeded"}}"#;
    let before = jiff::Timestamp::now();
    let end = end_of(Openai, answer(429, &[], body)).await;
    let Progress::Declined(ProviderError::Out(ProviderStanding::Cooling { until, .. })) = end else {
        panic!("{end:?}")
    };
    let pause = Duration::try_from(until.duration_since(before)).expect("later");
    assert!(pause >= Duration::from_secs(432) && pause < Duration::from_secs(600), "{pause:?}");
}
