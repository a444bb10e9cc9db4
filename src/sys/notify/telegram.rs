//! Telegram's bot API, <https://core.telegram.org/bots/api#sendmessage>. The URL contains the bot's token.
//! Takes a notification and the channel's row; returns delivered, or why not and whether a retry may help. Tries once,
//! keeps nothing. Never prints the URL.

use reqwest::Url;
use serde_json::{Value, json};

use crate::{
    config::Telegram,
    model::notice::{Notice, NoticeError},
    sys::notify::post::{client, permanent, post},
};

/// Longest message in UTF-16 code units (Bot API, sendMessage: 4096 characters).
const TEXT_MAX: usize = 4096;

pub async fn send(row: &Telegram, notice: &Notice) -> Result<(), NoticeError> {
    let token = row.token().map_err(permanent)?;
    let mut url = Url::parse(&row.url).map_err(|why| permanent(format!("`url` is no address: {why}")))?;
    let method = format!("bot{}", token.expose().trim());
    url.path_segments_mut()
        .map_err(|()| permanent("`url` is no address that can be called"))?
        .pop_if_empty()
        .extend([method.as_str(), "sendMessage"]);
    // Plain text: no parse mode, so nothing in it means anything.
    let body = json!({"chat_id": row.chat_id, "text": text(notice), "link_preview_options": {"is_disabled": true}});
    post(client()?.post(url).json(&body), &[token], retry_after, took).await
}

fn text(notice: &Notice) -> String {
    let whole = format!("{}\n\n{}", notice.title, notice.text);
    let mut units = 0;
    let fits = whole.chars().take_while(|c| {
        units += c.len_utf16();
        units <= TEXT_MAX
    });
    fits.collect()
}

fn retry_after(body: &str) -> Option<u64> {
    serde_json::from_str::<Value>(body).ok()?["parameters"]["retry_after"].as_u64()
}

/// Telegram answers `"ok": true` on success; anything else with 200 is not from Telegram.
fn took(body: &str) -> bool {
    serde_json::from_str::<Value>(body).is_ok_and(|answer| answer["ok"] == true)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::model::notice::NoticeKind;

    #[test]
    fn a_message_is_cut_where_telegram_would_refuse_it() {
        let long = "\u{1f600}".repeat(3000);
        let mut notice = Notice::new(NoticeKind::Limit, String::new(), "t", "x", Timestamp::UNIX_EPOCH);
        notice.text = long;
        assert_eq!(text(&notice).encode_utf16().count(), TEXT_MAX - 1, "no half of a character");
    }
}
