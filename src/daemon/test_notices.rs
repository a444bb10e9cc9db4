//! `check --notify`: sends one test notification through each configured channel and prints the outcome.
//! Works without a daemon and tries each channel once.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;

use super::main::in_runtime;
use crate::{
    cli::NoticeReport,
    config::Config,
    daemon::fatal::Fatal,
    model::notice::{Notice, NoticeKind},
    ports::Notifier as _,
    sys::notify::Receivers,
};

#[must_use]
pub fn test_notices(config: &Config) -> Vec<NoticeReport> {
    let channels = config.notifications.channels();
    let (_keep, config) = watch::channel(Arc::new(config.clone()));
    let now = Timestamp::now();
    let text = "Somebody called `claude-failover check --notify`. Notices come here.";
    let notice = Notice::new(NoticeKind::Test, format!("test {now}"), "A test of claude-failover", text, now);
    let sent = in_runtime(async {
        let receivers = Receivers::new(config);
        let mut sent = Vec::new();
        for channel in &channels {
            sent.push((*channel, receivers.send(*channel, &notice).await.map_err(|error| error.to_string())));
        }
        Ok::<_, Fatal>(sent)
    });
    sent.unwrap_or_else(|error| channels.into_iter().map(|channel| (channel, Err(error.to_string()))).collect())
}
