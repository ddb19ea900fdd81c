//! Runs both sides, and connects them again and again.

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

/// The reader of the log that publishes.
pub const READER: &str = "amqp";

/// Dead letters that may wait for the publisher.
const LETTERS: usize = 64;
/// First and longest pause before connecting again. What other services publish
/// as soon as the broker is back waits for no longer than this.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Pause after a refusal, which only a person can change.
const REFUSED_PAUSE: Duration = Duration::from_mins(1);
/// Pause after the store has failed.
const STORE_PAUSE: Duration = Duration::from_secs(10);
/// A connection that has lived this long was no failed attempt.
const LIVED: Duration = Duration::from_secs(10);

/// Runs both sides.
#[derive(Debug)]
pub struct Driver {
    engine: Engine,
    settings: Arc<Settings>,
    broker: Arc<Broker>,
    clock: Clock,
    tracer: Option<Tracer>,
}

impl Driver {
    /// A driver between an engine, which has [`READER`] among its readers,
    /// and the broker of these settings.
    #[must_use]
    pub fn new(engine: Engine, settings: Settings, broker: Arc<Broker>, clock: Clock) -> Self {
        Self { engine, settings: Arc::new(settings), broker, clock, tracer: None }
    }

    /// The same, where each event that is consumed has a span.
    #[must_use]
    pub fn traced(self, tracer: Option<&Tracer>) -> Self {
        Self { tracer: tracer.cloned(), ..self }
    }

    /// Publishes and consumes until `stop`, or until the engine stops.
    pub async fn run(self, stop: CancellationToken) {
        let Self { engine, settings, broker, clock, tracer } = self;
        let Some(reader) = engine.log().reader(READER) else {
            tracing::error!("the log has no reader that publishes; nothing goes to the broker");
            return;
        };
        let (letters, posted) = mpsc::channel(LETTERS);
        let shared = (broker.clone(), clock.clone());
        let mut publisher = Publisher::new((engine.clone(), reader), settings.clone(), shared, posted, stop.clone());
        let consumer =
            Consumer { engine, settings, broker: broker.clone(), clock, letters, tracer, stop: stop.clone() };
        let publishing = async {
            let mut pauses = Pauses::default();
            loop {
                let lived = Stopwatch::start();
                let result = publisher.serve().await;
                if !goes_on(&broker, Side::Publisher, result, pauses.after(lived.elapsed()), &stop).await {
                    return;
                }
            }
        };
        let consuming = async {
            let mut pauses = Pauses::default();
            loop {
                let lived = Stopwatch::start();
                let result = consumer.serve().await;
                if !goes_on(&broker, Side::Consumer, result, pauses.after(lived.elapsed()), &stop).await {
                    return;
                }
            }
        };
        tokio::join!(publishing, consuming);
    }
}

/// The pauses between attempts to connect, each twice the one before.
#[derive(Default)]
struct Pauses {
    failed: u32,
}

impl Pauses {
    /// The next pause, after a connection that lived so long. With jitter:
    /// many services may have lost the same broker.
    fn after(&mut self, lived: Duration) -> Duration {
        if lived >= LIVED {
            self.failed = 0;
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failed.min(16)).min(LONGEST_PAUSE);
        self.failed = self.failed.saturating_add(1);
        pause.mul_f64(rand::random_range(0.5..1.0))
    }
}

/// Tells what ended a connection, and waits for the next attempt. Whether
/// there is to be one.
async fn goes_on(
    broker: &Broker,
    side: Side,
    result: Result<(), Error>,
    pause: Duration,
    stop: &CancellationToken,
) -> bool {
    let pause = match result {
        Ok(()) | Err(Error::Stopping) => {
            broker.note_state(side, LinkState::Away);
            return !stop.is_cancelled() && wait(pause, stop).await;
        }
        Err(error) => {
            let (state, message) = (error.state(), error.to_string());
            // The same again is no news: an attempt is made every few seconds.
            if broker.note_error(side, state, message.clone()) {
                let (side, address) = (side.as_str(), broker.address());
                match state {
                    LinkState::Refused => {
                        tracing::error!(
                            side,
                            address,
                            error = message,
                            "the broker refuses; a setting must be changed"
                        );
                    }
                    LinkState::StorageFailed => {
                        tracing::error!(side, address, error = message, "no messages are taken; trying again");
                    }
                    _ => tracing::warn!(side, address, error = message, "the broker is away; trying again"),
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
