//! The timer of a connection. The HTTP library sets a deadline for the head of each
//! request, and almost none of them passes. So a connection has one timer, which is
//! reset only when it fires, or for a deadline before it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt;

/// A timer for deadlines, of which one is waited for at a time.
#[derive(Debug, Clone)]
pub(in crate::http) struct ConnectionTimer {
    alarm: Arc<Mutex<Pin<Box<tokio::time::Sleep>>>>,
}

impl ConnectionTimer {
    /// Sets the timer to fire after `first`, which is best not after the first
    /// deadlines.
    pub(in crate::http) fn new(first: Duration) -> Self {
        Self { alarm: Arc::new(Mutex::new(Box::pin(tokio::time::sleep(first)))) }
    }
}

impl rt::Timer for ConnectionTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn rt::Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn rt::Sleep>> {
        Box::pin(Deadline { deadline: deadline.into(), timer: self.clone() })
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into()
    }
}

/// Completes at the deadline.
struct Deadline {
    deadline: tokio::time::Instant,
    timer: ConnectionTimer,
}

impl rt::Sleep for Deadline {}

impl Future for Deadline {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut alarm = self.timer.alarm.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let (fired, set_for) = (alarm.as_mut().poll(cx).is_ready(), alarm.deadline());
            if fired && set_for >= self.deadline {
                return Poll::Ready(());
            }
            if !fired && set_for <= self.deadline {
                // The timer wakes the connection before the deadline, which is then
                // checked again.
                return Poll::Pending;
            }
            alarm.as_mut().reset(self.deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::rt::Timer;

    use super::*;

    const STEP: Duration = Duration::from_millis(10);

    #[tokio::test]
    async fn deadlines_hold_whatever_the_timer_was_set_for() {
        for first in [STEP, 3 * STEP, 3600 * STEP] {
            let timer = ConnectionTimer::new(first);
            for deadline in [3 * STEP, STEP, 4 * STEP] {
                let started = timer.now();
                timer.sleep(deadline).await;
                assert!(timer.now() - started >= deadline, "with an alarm after {first:?}");
            }
        }
    }

    #[tokio::test]
    async fn an_abandoned_deadline_does_not_end_the_next_one() {
        let timer = ConnectionTimer::new(5 * STEP);
        for _ in 0..10 {
            let abandoned = timer.sleep(5 * STEP);
            // On a busy machine the deadline may have passed, which is right as well.
            let _ = tokio::time::timeout(STEP, abandoned).await;
        }
        let started = timer.now();
        timer.sleep(5 * STEP).await;
        assert!(timer.now() - started >= 5 * STEP);
    }
}
