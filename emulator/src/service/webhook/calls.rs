//! Calls a webhook for a registration, with retries, and records each call.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::{Instant, sleep_until};

use super::{
    client::WebhookClient,
    response::{HttpAnswer, Judgement, Verdict, judge},
};
use crate::{
    clock::{self, Clock},
    config::{Behaviour, webhook_url},
    service::{
        allocation::Allocated,
        failure::Failure,
        jobs::{FORGOTTEN, Stopped},
    },
    watch::{journal::Journal, records::WebhookCall, text},
};

/// Calls webhooks and records the calls.
pub(in crate::service) struct Webhooks {
    client: WebhookClient,
    /// The URL of the built-in Contoso webhook.
    built_in: Option<String>,
    clock: Clock,
    journal: Arc<Journal>,
}

/// The request of a registration to a webhook.
pub(in crate::service) struct Question<'a> {
    pub(in crate::service) url: &'a str,
    pub(in crate::service) registration_id: &'a str,
    /// The `AllocationRequest`.
    pub(in crate::service) body: String,
    pub(in crate::service) offered: &'a [String],
    pub(in crate::service) behaviour: &'a Behaviour,
    pub(in crate::service) stopped: &'a Stopped,
}

impl Webhooks {
    pub(in crate::service) fn new(clock: Clock, journal: Arc<Journal>) -> Self {
        Self { client: WebhookClient::default(), built_in: None, clock, journal }
    }

    pub(in crate::service) fn with_built_in(self, url: Option<String>) -> Self {
        Self { built_in: url, ..self }
    }

    /// Returns the record of the first call, before the call is made.
    fn first_call(&self, question: &Question<'_>) -> WebhookCall {
        WebhookCall {
            number: 0,
            at: SystemTime::now(),
            registration_id: question.registration_id.to_owned(),
            url: webhook_url::masked(question.url),
            built_in: self.built_in.as_deref() == Some(question.url),
            request: serde_json::from_str(&question.body).unwrap_or_default(),
            request_body: question.body.clone(),
            attempt: 1,
            attempts: 1,
            duration: Duration::ZERO,
            next_in: None,
            status: None,
            response_body: String::new(),
            assigned_hub: None,
            outcome: String::new(),
            warnings: Vec::new(),
            replay_of: None,
        }
    }

    /// Calls the webhook until its answer is final. Returns `None` if the registration was stopped.
    pub(in crate::service) async fn ask(&self, question: &Question<'_>) -> Option<Result<Allocated, Failure>> {
        let behaviour = question.behaviour;
        let attempts = behaviour.webhook_retries.saturating_add(1);
        for attempt in 1..=attempts {
            let wait = behaviour.webhook_retry_initial + behaviour.webhook_retry_increment * f64::from(attempt - 1);
            let wait = clock::wait(wait);
            let next_in = (attempt < attempts).then_some(wait);
            let call = WebhookCall { attempt, attempts, next_in, ..self.first_call(question) };
            match self.call(question, call).await.1? {
                Verdict::Allocated(allocated) => return Some(Ok(allocated)),
                Verdict::Failed(failure) => return Some(Err(failure)),
                Verdict::TryAgain(_) => tokio::select! {
                    () = self.clock.sleep(wait) => {}
                    _ = question.stopped.wait() => return None,
                },
            }
        }
        None
    }

    /// Repeats a call with the request of the call with this number. It belongs to no registration. Returns `None` if
    /// a reset came during the call.
    pub(in crate::service) async fn ask_again(&self, question: &Question<'_>, number: u64) -> Option<Arc<WebhookCall>> {
        self.call(question, WebhookCall { replay_of: Some(number), ..self.first_call(question) }).await.0
    }

    /// Makes one call and records it. Returns no verdict if the registration was stopped. Makes no record if the
    /// registration was forgotten.
    async fn call(
        &self,
        question: &Question<'_>,
        mut call: WebhookCall,
    ) -> (Option<Arc<WebhookCall>>, Option<Verdict>) {
        let (duration, answered) = self.exchange(question, &call).await;
        if matches!(answered, Err(FORGOTTEN)) {
            return (None, None);
        }
        (call.at, call.duration) = (SystemTime::now(), duration);
        let secrets = webhook_url::secrets(question.url);
        let judgement = answered.map(|answered| match answered {
            Ok(answer) => {
                call.status = Some(answer.status);
                call.response_body = text::mask(String::from_utf8_lossy(&answer.body).into_owned(), &secrets);
                match judge(&answer, question.offered, question.behaviour, &secrets) {
                    Judgement { verdict: Verdict::TryAgain(status), .. } if call.next_in.is_none() => {
                        Judgement::failed(Failure::status(status))
                    }
                    judgement => judgement,
                }
            }
            Err(why) => Judgement::failed(Failure::unreachable(&why)),
        });
        let verdict = match judgement {
            Ok(Judgement { verdict, outcome, warnings }) => {
                (call.outcome, call.warnings) = (outcome, warnings);
                Some(verdict)
            }
            Err(why) => {
                call.outcome = format!("cancelled: {why}");
                None
            }
        };
        call.next_in = call.next_in.filter(|_| matches!(verdict, Some(Verdict::TryAgain(_))));
        if let Some(Verdict::Allocated(allocated)) = &verdict {
            call.assigned_hub = Some(allocated.hub.clone());
        }
        (Some(self.journal.record_webhook_call(call, question.url)), verdict)
    }

    /// Waits for the call's turn and makes the call. Returns how long the call took since its turn began. The error
    /// is the reason why the registration was stopped.
    async fn exchange(
        &self,
        question: &Question<'_>,
        call: &WebhookCall,
    ) -> (Duration, Result<Result<HttpAnswer, String>, &'static str>) {
        let _turn = tokio::select! {
            turn = self.client.turn() => turn,
            why = question.stopped.wait() => return (Duration::ZERO, Err(why)),
        };
        let started = Instant::now();
        let time_out = self.time_out(question.behaviour);
        // With a high time scale, 1 s becomes very short. No webhook answers faster than in 100 ms when it is busy.
        let mut notice = self.clock.real(Duration::from_secs(1)).max(Duration::from_millis(100));
        let mut post = pin!(self.client.post(question.url, call.request_body.clone(), time_out));
        let answered = loop {
            tokio::select! {
                answered = &mut post => break Ok(answered),
                why = question.stopped.wait() => break Err(why),
                () = sleep_until(started + notice) => {
                    let outcome = format!("no answer yet, the time-out is {time_out:?}");
                    let (at, duration) = (SystemTime::now(), started.elapsed());
                    self.journal.webhook_under_way(WebhookCall {
                        at, duration, next_in: None, outcome, ..call.clone()
                    });
                    notice = notice.saturating_mul(10);
                }
            }
        };
        (started.elapsed(), answered)
    }

    /// Returns the time-out of a call. A high time scale shortens it, but not so far that a webhook on a busy machine
    /// fails.
    fn time_out(&self, behaviour: &Behaviour) -> Duration {
        let timeout = clock::wait(behaviour.webhook_timeout);
        let floor = Duration::from_secs(10).min(timeout);
        self.clock.real(timeout).max(floor)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        task::yield_now,
        time::sleep,
    };

    use super::*;
    use crate::service::{jobs::Jobs, webhook::client::MAX_CALLS};

    /// The duration of a call does not include the wait for its turn.
    #[tokio::test]
    async fn the_duration_of_a_call_begins_with_its_turn() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let clock = Clock::new(1.0);
        let jobs = Jobs::default();
        let journal = Arc::new(Journal::new(clock, None, false));
        let webhooks = Webhooks::new(clock, Arc::clone(&journal));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let question = Question {
            url: &format!("http://{}/", listener.local_addr().unwrap()),
            registration_id: "device",
            body: "{}".to_owned(),
            offered: &["hub".to_owned()],
            behaviour: &Behaviour::default(),
            stopped: &jobs.start("operation"),
        };
        let mut turns = Vec::new();
        for _ in 0..MAX_CALLS {
            turns.push(webhooks.client.turn().await);
        }
        let serve = async {
            sleep(Duration::from_millis(100)).await;
            drop(turns);
            let began = Instant::now();
            let mut call = listener.accept().await.unwrap().0;
            let _ = call.read(&mut [0; 4096]).await.unwrap();
            let answer = r#"{"iotHubHostName":"hub"}"#;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", answer.len());
            call.write_all((head + answer).as_bytes()).await.unwrap();
            began
        };
        let (allocated, began) = tokio::join!(webhooks.ask(&question), serve);
        assert_eq!(allocated.unwrap().unwrap().hub, "hub");
        let [call] = &journal.webhook_calls()[..] else { panic!("one call") };
        assert!(call.duration <= began.elapsed(), "{:?}", call.duration);
    }

    /// A registration that is stopped while its call waits for a turn cancels the call.
    #[tokio::test]
    async fn a_call_can_be_stopped_before_its_turn() {
        let jobs = Jobs::default();
        let clock = Clock::new(1.0);
        let journal = Arc::new(Journal::new(clock, None, false));
        let webhooks = Webhooks::new(clock, Arc::clone(&journal));
        let question = Question {
            url: "http://127.0.0.1:1/",
            registration_id: "device",
            body: "{}".to_owned(),
            offered: &[],
            behaviour: &Behaviour::default(),
            stopped: &jobs.start("operation"),
        };
        let mut turns = Vec::new();
        for _ in 0..MAX_CALLS {
            turns.push(webhooks.client.turn().await);
        }
        let (allocated, ()) = tokio::join!(webhooks.ask(&question), async {
            yield_now().await;
            jobs.stop(Some("operation".to_owned()), "the device registered again");
        });
        assert!(allocated.is_none());
        let [call] = &journal.webhook_calls()[..] else { panic!("one call") };
        assert_eq!((call.duration, &*call.outcome), (Duration::ZERO, "cancelled: the device registered again"));
    }
}
