//! Status answers of tasks: from memory, or rendered from the store.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;

use arc_swap::ArcSwap;

use super::pauses::Pauses;
use crate::clock::Clock;
use crate::engine::api::{Answer, ChangedAnswer, PauseChange};
use crate::engine::shared::HotTasks;
use crate::store::{self, StatusView, Store, View, guarded};
use crate::task::TaskId;
use crate::wire::{CompactAnswer, FixedValues};

/// Status answers of tasks.
#[derive(Debug)]
pub(in crate::engine) struct Statuses {
    store: Store,
    clock: Clock,
    hot: Arc<HotTasks>,
    /// View for answers that are not in memory: opened for the first of them after a
    /// commit, and kept until the next commit.
    cold: ArcSwap<OnceLock<StatusView>>,
    pauses: Pauses,
    /// Number of commits that removed tasks.
    removals: AtomicU64,
}

impl Statuses {
    pub(super) fn new(store: Store, clock: Clock, hot: Arc<HotTasks>) -> Self {
        Self { store, clock, hot, cold: ArcSwap::default(), pauses: Pauses::default(), removals: AtomicU64::new(0) }
    }

    /// Drops the view of the previous commit. It must precede [`Self::put`]: an answer that
    /// leaves memory is looked up in the new view.
    pub(super) fn renew_view(&self) {
        self.cold.store(Arc::default());
    }

    /// Replaces the answers that a commit has changed. Returns their tasks.
    pub(super) fn put(&self, answers: Vec<ChangedAnswer>) -> Vec<TaskId> {
        let mut changed = Vec::with_capacity(answers.len());
        for ChangedAnswer { task, has_ended, answer } in answers {
            match answer {
                Some(answer) if has_ended => self.hot.put_finished(task, answer),
                Some(answer) => self.hot.put_open(task, answer),
                None => self.hot.remove(task),
            }
            changed.push(task);
        }
        changed
    }

    /// Removes the answers of tasks that a commit has removed.
    pub(super) fn remove(&self, removed: Vec<TaskId>) {
        if !removed.is_empty() {
            self.removals.fetch_add(1, Ordering::AcqRel);
        }
        for task in removed {
            self.hot.remove(task);
        }
    }

    /// Applies a pause or its end. Only one thread may call it.
    pub(super) fn change_pause(&self, change: &PauseChange) {
        self.pauses.change(change);
    }

    /// Returns the number of answers in memory.
    pub(super) fn in_memory(&self) -> usize {
        self.hot.len()
    }

    /// Returns the status answer of a task. Blocks until the tables have the last commit
    /// if the answer is not in memory.
    pub(in crate::engine) fn get(&self, task: TaskId) -> Result<Option<Answer>, store::Error> {
        loop {
            match self.get_now(task)? {
                Poll::Ready(answer) => return Ok(answer),
                Poll::Pending => self.store.wait()?,
            }
        }
    }

    /// Like [`Self::get`], but returns `Pending` instead of blocking.
    pub(in crate::engine) fn get_now(&self, task: TaskId) -> Result<Poll<Option<Answer>>, store::Error> {
        match self.hot.get(task, |answer| self.pauses.holding(answer)) {
            Some(answer) => Ok(Poll::Ready(Some(answer))),
            None => guarded(|| self.cold_status(task)),
        }
    }

    /// Renders the status answer from the rows of the store.
    fn cold_status(&self, id: TaskId) -> Result<Poll<Option<Answer>>, store::Error> {
        let cold = self.cold.load();
        let view = if let Some(view) = cold.get() {
            view
        } else {
            let Some(view) = self.store.view_now()? else { return Ok(Poll::Pending) };
            let view = view.statuses()?;
            cold.get_or_init(|| view)
        };
        let Some((task, submission)) = view.task(id)? else { return Ok(Poll::Ready(None)) };
        let compact = CompactAnswer::new(&task, &FixedValues::new(&submission, &task), self.clock.now());
        Ok(Poll::Ready(Some(compact.render(id, self.pauses.holding(&compact)))))
    }

    /// Loads the newest finished tasks into memory after a start, until it is full.
    pub(in crate::engine) fn warm(&self, is_stopped: impl Fn() -> bool) -> Result<(), store::Error> {
        let mut before = None;
        while !is_stopped() {
            // One short view for each page: the file grows for as long as a view is open.
            let removals = self.removals.load(Ordering::Acquire);
            let view = self.store.view()?;
            let page = view.newest_finished(before, 1024)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            before = Some(*last);
            let room = self.warm_page(&view, &page)?;
            if self.removals.load(Ordering::Acquire) != removals {
                self.forget_removed(&page)?;
            }
            if !room {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Loads a page of tasks. Returns whether all of them fit.
    fn warm_page(&self, view: &View, page: &[([u8; 24], TaskId)]) -> Result<bool, store::Error> {
        for &(_, id) in page {
            let (Some(task), Some(submission)) = (view.task(id)?, view.submission(id)?) else { continue };
            let fixed = FixedValues::new(&submission, &task);
            if fixed.is_small() && !self.hot.put_older(id, CompactAnswer::new(&task, &fixed, self.clock.now())) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes tasks of a page that retention has removed since its view was opened.
    fn forget_removed(&self, page: &[([u8; 24], TaskId)]) -> Result<(), store::Error> {
        let view = self.store.view()?;
        for &(_, id) in page {
            if !view.has_task(id)? {
                self.hot.remove(id);
            }
        }
        Ok(())
    }
}
