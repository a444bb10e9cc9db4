//! Shares one answer between concurrent callers with the same question.
//! Every caller gets an answer that was requested after it called, so the answer reflects everything the caller did
//! before. Callers that arrive during a request share the next one. Owns the last answer.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

#[derive(Debug)]
pub struct Shared<T> {
    /// Callers so far.
    came: AtomicU64,
    /// The last answer, and how many callers had come when it was asked for.
    last: Mutex<Option<(u64, T)>>,
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Shared<T> {
    #[must_use]
    pub const fn new() -> Self {
        Self { came: AtomicU64::new(0), last: Mutex::const_new(None) }
    }
}

impl<T: Clone> Shared<T> {
    /// Asks, unless somebody else has asked since this was called.
    ///
    /// # Errors
    /// The error of `ask`; other callers don't get it.
    pub async fn get<E>(&self, ask: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let number = self.came.fetch_add(1, Ordering::SeqCst);
        let mut last = self.last.lock().await;
        // Who is about to ask the same, because the same thing woke him, comes first.
        tokio::task::yield_now().await;
        if let Some((before, answer)) = &*last
            && number < *before
        {
            return Ok(answer.clone());
        }
        let before = self.came.load(Ordering::SeqCst);
        let answer = ask.await?;
        *last = Some((before, answer.clone()));
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::{sync::Semaphore, task::yield_now};

    use super::*;

    #[tokio::test]
    async fn who_waits_shares_and_nobody_gets_an_answer_older_than_his_question() {
        let shared: Arc<Shared<u64>> = Arc::new(Shared::new());
        let (asked, gate) = (Arc::new(AtomicU64::new(0)), Arc::new(Semaphore::new(0)));
        let call = || {
            let (shared, asked, gate) = (shared.clone(), asked.clone(), gate.clone());
            tokio::spawn(async move {
                let ask = async {
                    let number = asked.fetch_add(1, Ordering::SeqCst);
                    gate.acquire().await.map(|permit| permit.forget()).map(|()| number)
                };
                shared.get(ask).await
            })
        };
        let first = call();
        while asked.load(Ordering::SeqCst) == 0 {
            yield_now().await;
        }
        let later = [call(), call(), call()];
        while shared.came.load(Ordering::SeqCst) < 4 {
            yield_now().await;
        }
        gate.add_permits(4);
        assert_eq!(first.await.expect("no panic").expect("asked"), 0);
        for call in later {
            assert_eq!(call.await.expect("no panic").expect("asked"), 1);
        }
        assert_eq!(shared.get(async { Ok::<_, ()>(7) }).await, Ok(7), "nobody waited");
    }

    #[tokio::test]
    async fn a_failure_is_not_kept() {
        let shared = Shared::new();
        assert_eq!(shared.get(async { Err::<u64, _>("no") }).await, Err("no"));
        assert_eq!(shared.get(async { Ok::<_, &str>(1) }).await, Ok(1));
    }
}
