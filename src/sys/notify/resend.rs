//! E-mail by Resend, <https://resend.com/docs/api-reference/emails/send-email>.
//! Takes a notification and the channel's row; returns delivered, or why not and whether a retry may help. Tries once,
//! keeps nothing. The key is in a header that is never printed.

use reqwest::Url;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::{
    config::Resend,
    model::notice::{Notice, NoticeError},
    sys::notify::post::{client, permanent, post},
};

pub async fn send(row: &Resend, notice: &Notice) -> Result<(), NoticeError> {
    let key = row.key().map_err(permanent)?;
    let mut url = Url::parse(&row.url).map_err(|why| permanent(format!("`url` is no address: {why}")))?;
    url.path_segments_mut()
        .map_err(|()| permanent("`url` is no address that can be called"))?
        .pop_if_empty()
        .push("emails");
    let body = json!({
        "from": row.from,
        "to": row.to,
        "subject": notice.title.replace('\n', " "),
        "text": format!("{}\n\n{} ({})", notice.text, notice.kind.name(), notice.at),
    });
    // One e-mail, however often it is tried.
    let once = Sha256::digest(format!("{}\n{}\n{}", notice.incident, notice.over, notice.at));
    let once: String = once.iter().map(|byte| format!("{byte:02x}")).collect();
    let request = client()?.post(url).bearer_auth(key.expose().trim()).header("Idempotency-Key", once).json(&body);
    // Its answers tell how long to wait in a header.
    post(request, &[key], |_| None, |_| true).await
}
