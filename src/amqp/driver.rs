//! Runs the publisher and the consumer, and reconnects them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::broker::{Broker, LinkState, Side};
use super::connection::Error;
use super::consumer::Consumer;
use super::publisher::Publisher;
use super::settings::Settings;
use crate::clock::{Clock, Stopwatch};
use crate::engine::Engine;
use crate::telemetry::Tracer;

/// The name of the log reader that publishes to the broker.
pub const READER: &str = "amqp";

/// The most dead letters that wait for the publisher.
const MAX_WAITING_DEAD_LETTERS: usize = 64;
/// The first and the longest pause before a reconnect. The longest pause bounds how long messages
/// of other services wait after the broker has come back.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The pause after a refusal, which lasts until a person changes a setting.
const REFUSED_PAUSE: Duration = Duration::from_mins(1);
/// The pause after a failure of the store.
const STORE_PAUSE: Duration = Duration::from_secs(10);
/// After a connection of this length, the pauses begin with the first one again.
const STABLE_AFTER: Duration = Duration::from_secs(10);

/// Runs the publisher and the consumer, each on its own connection.
#[derive(Debug)]
pub struct Driver {
    engine: Engine,
    settings: Arc<Settings>,
    broker: Arc<Broker>,
    clock: Clock,
    tracer: Option<Tracer>,
}

impl Driver {
    /// Returns a driver between the engine and the broker of the settings. [`READER`] must be one of
    /// the log readers of the engine.
    #[must_use]
    pub fn new(engine: Engine, settings: Settings, broker: Arc<Broker>, clock: Clock) -> Self {
        Self { engine, settings: Arc::new(settings), broker, clock, tracer: None }
    }

    /// Sets the tracer, which makes a span for each consumed event.
    #[must_use]
    pub fn with_tracer(self, tracer: Option<&Tracer>) -> Self {
        Self { tracer: tracer.cloned(), ..self }
    }

    /// Publishes and consumes until `stop` is cancelled or the engine stops.
    pub async fn run(self, stop: CancellationToken) {
        let Self { engine, settings, broker, clock, tracer } = self;
        let Some(reader) = engine.log().reader(READER) else {
            tracing::error!("the engine has no log reader named amqp; nothing is published");
            return;
        };
        let (dead_letters, dead_letter_requests) = mpsc::channel(MAX_WAITING_DEAD_LETTERS);
        let shared = (broker.clone(), clock.clone());
        let mut publisher =
            Publisher::new((engine.clone(), reader), settings.clone(), shared, dead_letter_requests, stop.clone());
        let consumer =
            Consumer { engine, settings, broker: broker.clone(), clock, dead_letters, tracer, stop: stop.clone() };
        let publishing = async {
            let mut backoff = ReconnectBackoff::default();
            loop {
                let lived = Stopwatch::start();
                let result = publisher.serve().await;
                if !should_reconnect(&broker, Side::Publisher, result, backoff.next_pause(lived.elapsed()), &stop).await
                {
                    return;
                }
            }
        };
        let consuming = async {
            let mut backoff = ReconnectBackoff::default();
            loop {
                let lived = Stopwatch::start();
                let result = consumer.serve().await;
                if !should_reconnect(&broker, Side::Consumer, result, backoff.next_pause(lived.elapsed()), &stop).await
                {
                    return;
                }
            }
        };
        tokio::join!(publishing, consuming);
    }
}

/// The pauses between attempts to connect. Each is twice the previous one.
#[derive(Default)]
struct ReconnectBackoff {
    failed: u32,
}

impl ReconnectBackoff {
    /// Returns the pause after a connection that lasted for `lived`. Random jitter spreads the
    /// reconnects of services that have lost the same broker.
    fn next_pause(&mut self, lived: Duration) -> Duration {
        if lived >= STABLE_AFTER {
            self.failed = 0;
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failed.min(16)).min(LONGEST_PAUSE);
        self.failed = self.failed.saturating_add(1);
        pause.mul_f64(rand::random_range(0.5..1.0))
    }
}

/// Records and logs why a connection has ended, and waits for the pause. Returns whether to connect
/// again, which is false after the stop.
async fn should_reconnect(
    broker: &Broker,
    side: Side,
    result: Result<(), Error>,
    pause: Duration,
    stop: &CancellationToken,
) -> bool {
    let pause = match result {
        Ok(()) | Err(Error::Stopping) => {
            broker.set_state(side, LinkState::Away);
            return !stop.is_cancelled() && wait(pause, stop).await;
        }
        Err(error) => {
            let (state, message) = (error.state(), error.to_string());
            // Attempts follow every few seconds: only a new error is logged.
            if broker.record_error(side, state, message.clone()) {
                let (side, address) = (side.as_str(), broker.address());
                match state {
                    LinkState::Refused => {
                        tracing::error!(
                            side,
                            address,
                            error = message,
                            "the broker refuses the connection or a declaration; check the settings"
                        );
                    }
                    LinkState::StorageFailed => {
                        tracing::error!(
                            side,
                            address,
                            error = message,
                            "the store fails, so no messages are accepted; trying again"
                        );
                    }
                    _ => tracing::warn!(
                        side,
                        address,
                        error = message,
                        "the connection to the broker failed; trying again"
                    ),
                }
            }
            match state {
                LinkState::Refused => REFUSED_PAUSE,
                LinkState::StorageFailed => STORE_PAUSE,
                _ => pause,
            }
        }
    };
    wait(pause, stop).await
}

async fn wait(pause: Duration, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        () = sleep(pause) => true,
    }
}
