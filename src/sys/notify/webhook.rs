//! Posts JSON from a template to any URL: n8n, Slack and the like.
//! Takes a notification and the channel's row; returns delivered, or why not and whether a retry may help. Tries once,
//! keeps nothing. Never prints the URL.

use minijinja::{Environment, UndefinedBehavior, context};
use reqwest::header::CONTENT_TYPE;

use crate::{
    config::{Secret, Webhook},
    model::notice::{Notice, NoticeError},
    sys::notify::post::{client, permanent, post},
};

pub async fn send(row: &Webhook, notice: &Notice) -> Result<(), NoticeError> {
    let url = row.address().map_err(permanent)?;
    let key = row.key().map_err(permanent)?;
    let body = body(row.template.text().map_err(permanent)?, notice).map_err(permanent)?;
    // A service may put its secret into any part of the address.
    let parts = [url.path(), url.query().unwrap_or_default(), url.password().unwrap_or_default()];
    let parts = parts.map(|part| Secret::kept_elsewhere(part.trim_start_matches('/')));
    let mut secrets: Vec<&Secret> = parts.iter().collect();
    let mut request = client()?.post(url).header(CONTENT_TYPE, "application/json").body(body);
    if let Some(key) = key {
        request = request.bearer_auth(key.expose().trim());
        secrets.push(key);
    }
    post(request, &secrets, |_| None, |_| true).await
}

/// The template with the notification filled in; invalid JSON then is the template's fault.
fn body(template: &str, notice: &Notice) -> Result<String, String> {
    let mut engine = Environment::new();
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    let values = context! {
        kind => notice.kind.name(),
        incident => &notice.incident,
        over => notice.over,
        title => &notice.title,
        text => &notice.text,
        at => notice.at.to_string(),
    };
    // By this name values are written as JSON.
    let body = engine.render_named_str("notice.json", template, values);
    let body = body.map_err(|why| format!("the template can't be rendered: {why}"))?;
    match serde_json::from_str::<serde::de::IgnoredAny>(&body) {
        Ok(_) => Ok(body),
        Err(why) => Err(format!("the template gives no JSON: {why}; values bring their own quotes")),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::*;
    use crate::{config::Template, model::notice::NoticeKind};

    fn notice() -> Notice {
        let text = "said \"no\" <!channel> & {{ title }}\nnext\u{1b}[31m";
        Notice::new(NoticeKind::Limit, "limit one".to_owned(), "a \"title\"", text, Timestamp::UNIX_EPOCH)
    }

    fn rendered(template: &Template) -> Value {
        let text = body(template.text().expect("a template"), &notice()).expect("a body");
        serde_json::from_str(&text).expect("JSON")
    }

    #[test]
    fn what_others_wrote_stays_text_in_every_template() {
        assert_eq!(
            rendered(&Template::Json),
            json!({"kind": "limit", "incident": "limit one", "over": false, "title": "a \"title\"",
                "text": "said \"no\" <!channel> & {{ title }}\nnext", "at": "1970-01-01T00:00:00Z"})
        );
        assert_eq!(
            rendered(&Template::Slack),
            json!({"text": "*a \"title\"*\nsaid \"no\" &lt;!channel&gt; &amp; {{ title }}\nnext"})
        );
        let inline = Template::Inline("{\"content\": {{ title ~ ': ' ~ kind }}}".to_owned());
        assert_eq!(rendered(&inline), json!({"content": "a \"title\": limit"}));
    }

    #[test]
    fn a_wrong_template_says_what_is_wrong() {
        let error = |template: &str| body(template, &notice()).expect_err("wrong");
        assert!(error("{\"a\": \"{{ title }}\"}").contains("values bring their own quotes"));
        assert!(error("{\"a\": {{ titel }}}").contains("can't be rendered"));
    }
}
