//! The counterpart of a message broker: events to publish, and the work queues of
//! the tiers as the broker counts them.

use std::collections::HashMap;

use super::client::Client;
use crate::engine::api::{Dispatch, Error, EventPosition, LoggedEvent, QueueReport};
use crate::engine::read::dispatches;
use crate::engine::writer::Command;
use crate::task::{Moment, Seq, TaskId, Tier};

/// The counterpart of a message broker, by [`Engine::broker`](crate::engine::Engine::broker).
#[derive(Debug, Clone, Copy)]
pub struct BrokerHandle<'a>(pub(super) &'a Client);

impl BrokerHandle<'_> {
    /// Returns the events at these positions, in the same order, also where the log
    /// has been trimmed.
    ///
    /// `None` stands for an event whose task was removed. The result ends early when
    /// the events are large.
    pub async fn events_at(self, positions: Vec<EventPosition>) -> Result<Vec<Option<LoggedEvent>>, Error> {
        self.0.read(move |side| dispatches::events_at(&side.store.view()?, positions)).await
    }

    /// Returns the newest attempt of every task that waits for a worker, in order.
    pub async fn dispatched(self) -> Result<Vec<Dispatch>, Error> {
        self.0.read(|side| dispatches::all(&side.store)).await
    }

    /// Returns the newest `task.ready` of each task before a position, with the tier
    /// that it names, in the order of the tasks. All are looked up in one view.
    pub async fn newest_dispatches(
        self,
        tasks: Vec<(TaskId, Seq)>,
    ) -> Result<Vec<Option<(EventPosition, Tier)>>, Error> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        self.0.read(move |side| dispatches::newest_before(&side.store.view()?, tasks)).await
    }

    /// Returns the time of the last group of commands that was committed: everything
    /// that was dispatched before it is in the log. Groups under way have the same
    /// time or a later one.
    #[must_use]
    pub fn committed_at(self) -> Moment {
        self.0.read.activity.committed_at()
    }

    /// Returns those of some attempts that still wait for a worker, each with the time
    /// of its dispatch: the newest attempt of its task, neither ended nor with an
    /// output. All are looked up in one view.
    pub async fn still_waiting(self, positions: Vec<EventPosition>) -> Result<HashMap<EventPosition, Moment>, Error> {
        if positions.is_empty() {
            return Ok(HashMap::new());
        }
        self.0.read(move |side| dispatches::still_waiting(&side.store.view()?, positions)).await
    }

    /// Reports the state of a tier's work queue.
    ///
    /// Tasks that must be with workers by this count are taken from now on. Returns the
    /// tasks that have gone from the queue although no worker can have taken them,
    /// oldest first.
    pub async fn report_queue(self, report: QueueReport) -> Result<Vec<TaskId>, Error> {
        self.0.ask(|reply| Command::ReportQueue { report, reply }).await
    }
}

#[cfg(test)]
mod tests {
    use crate::clock::Clock;
    use crate::engine::state::testing::{settings, store};
    use crate::engine::{Engine, on_reading_thread};
    use crate::store::counted;
    use crate::task::{Bus, ExecutionMode, Options, ProjectId, Submission};

    #[tokio::test]
    async fn tasks_behind_a_broker_are_looked_at_in_one_view() {
        let (engine, writer) = Engine::start(store(), settings(Bus::Broker), &Clock::new()).unwrap();
        let submission = |project: &str| Submission {
            description: "d".to_owned(),
            project: ProjectId::new(project).unwrap(),
            priority: None,
            options: Options::default(),
            metadata: None,
            execution_mode: ExecutionMode::Autonomous,
            constitution_override: None,
            traceparent: None,
            rerun_of: None,
        };
        for name in ["p", "q"] {
            engine.tasks().submit((0..200).map(|_| submission(name)).collect(), None).await.unwrap();
        }
        on_reading_thread(async {
            let mut dispatched = engine.broker().dispatched().await.unwrap();
            while dispatched.len() < 400 {
                dispatched = engine.broker().dispatched().await.unwrap();
            }
            let before = counted::VIEWS.get();
            let dispatched = engine.broker().dispatched().await.unwrap();
            let positions: Vec<_> = dispatched.iter().map(|dispatch| dispatch.position).collect();
            assert_eq!(
                engine.broker().still_waiting(positions).await.unwrap(),
                dispatched.iter().map(|it| (it.position, it.at)).collect()
            );
            let tasks =
                dispatched.iter().filter_map(|dispatch| Some((dispatch.position.task?, crate::task::Seq(u64::MAX))));
            let newest = engine.broker().newest_dispatches(tasks.collect()).await.unwrap();
            assert!(newest.iter().zip(&dispatched).all(|(newest, dispatch)| {
                newest.as_ref().map(|(position, tier)| (position, tier)) == Some((&dispatch.position, &dispatch.tier))
            }));
            assert_eq!(counted::VIEWS.get() - before, 3);
        })
        .await;
        drop(engine);
        writer.stop().unwrap();
    }
}
