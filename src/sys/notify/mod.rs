//! Delivers notifications: Telegram, e-mail by Resend, webhooks.
//! Takes the configuration and a notification; sends one request and reports the answer in words. Owns no connection.
//! URLs may hold secrets, so no error shows one, and every secret that was sent is masked in what a receiver says.

mod post;
mod resend;
mod telegram;
mod webhook;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::{
    config::Config,
    model::notice::{Channel, Notice, NoticeError},
    ports::Notifier,
    sys::notify::post::permanent,
};

/// The configured receivers, as of each notification.
pub struct Receivers(watch::Receiver<Arc<Config>>);

impl Receivers {
    #[must_use]
    pub fn new(config: watch::Receiver<Arc<Config>>) -> Self {
        Self(config)
    }
}

#[async_trait]
impl Notifier for Receivers {
    async fn send(&self, channel: Channel, notice: &Notice) -> Result<(), NoticeError> {
        let settings = self.0.borrow().notifications.clone();
        let sent = match channel {
            Channel::Telegram => match &settings.telegram {
                Some(row) => telegram::send(row, notice).await,
                None => Err(missing()),
            },
            Channel::Resend => match &settings.resend {
                Some(row) => resend::send(row, notice).await,
                None => Err(missing()),
            },
            Channel::Webhook => match &settings.webhook {
                Some(row) => webhook::send(row, notice).await,
                None => Err(missing()),
            },
        };
        let named = |why: String| format!("notifications.{}: {why}", channel.name());
        sent.map_err(|error| match error {
            NoticeError::Temporary { why, after } => NoticeError::Temporary { why: named(why), after },
            NoticeError::Permanent(why) => NoticeError::Permanent(named(why)),
        })
    }
}

fn missing() -> NoticeError {
    permanent("it is not in the configuration any more")
}
