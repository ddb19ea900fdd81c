//! What the state machine does at a start, and after a restore.

use std::sync::Arc;

use super::Machine;
use crate::engine::api::{IdempotencyKey, PauseChange, Publication, Settings, TaskEnd};
use crate::engine::shared::Shared;
use crate::engine::state::checkpoints::{AutomaticCheckpoints, Checkpoints};
use crate::engine::state::dead_letters::DeadLetters;
use crate::engine::state::event_log::EventLog;
use crate::engine::state::failure::{Stored, unless_refused};
use crate::engine::state::group::Group;
use crate::engine::state::housekeeping::{self, Housekeeping};
use crate::engine::state::idempotency::IdempotencyKeys;
use crate::engine::state::ids::IdSource;
use crate::engine::state::import::ImportedEvents;
use crate::engine::state::inbox::Inbox;
use crate::engine::state::lines::Lines;
use crate::engine::state::open_tasks::enter_decoded;
use crate::engine::state::parking::Parking;
use crate::engine::state::predictions::Predictions;
use crate::engine::state::projects::Projects;
use crate::engine::state::provenance::Provenance;
use crate::engine::state::restore;
use crate::engine::state::storage::Storage;
use crate::engine::state::taken_events::TakenEvents;
use crate::engine::state::tasks::Tasks;
use crate::engine::state::transitions::EngineState;
use crate::store::{Recovered, Store};
use crate::task::{Estimator, Input, Now, ProjectId, TaskId};

impl Machine {
    /// Restores the state of the last commit.
    pub(crate) fn recovered(
        settings: Arc<Settings>,
        store: Store,
        recovered: Recovered,
        shared: Shared,
    ) -> Stored<Self> {
        let mut lines = Lines::new(&settings);
        let mut keys = IdempotencyKeys::default();
        for (seq, row) in recovered.idempotency {
            keys.remember(seq, row.at, IdempotencyKey { key: row.key, body: row.body });
        }
        for (tier, pause) in recovered.tier_pauses {
            lines.set_tier_pause(&tier, pause);
        }
        let mut projects = Projects::new(settings.max_projects);
        projects.recover(recovered.projects, recovered.counters, &mut lines);
        let mut parking = Parking::default();
        for (task, parked) in recovered.parked {
            parking.set(task, parked);
        }
        let automatic = AutomaticCheckpoints::recovered(
            settings.checkpoints,
            recovered.automatic_checkpoints,
            recovered.checkpoint_progress,
        );
        let unwarmed = recovered.open.iter().map(|task| task.id).collect();
        let readers = recovered.log_readers.into_iter().collect();
        let state = EngineState {
            storage: Storage::new(store),
            tasks: Tasks::new(settings.policy.clone(), parking, shared, unwarmed),
            lines,
            projects,
            provenance: Provenance::recovered(recovered.graph, recovered.stated.into_iter().collect()),
            log: EventLog::recovered(recovered.head, recovered.tail, readers),
            inbox: Inbox {
                taken: TakenEvents::recovered(recovered.taken_events),
                dead_letters: DeadLetters::recovered(
                    recovered.dead_letters,
                    recovered.last_dead_letter,
                    recovered.dead_letter_removals,
                ),
            },
            checkpoints: Checkpoints::new(automatic),
            predictions: Predictions::new(Estimator::recovered(recovered.estimates)),
            group: Group::first(),
        };
        let mut machine = Self {
            settings,
            state,
            ids: IdSource::after(recovered.clocks.ids_until_ms),
            keys,
            imported_events: ImportedEvents::default(),
            housekeeping: Housekeeping::default(),
            of_other_bus: Vec::new(),
        };
        let bus = machine.settings.policy.bus;
        enter_decoded(recovered.open, |mut task, row| {
            let EngineState { tasks, lines, provenance, .. } = &mut machine.state;
            tasks.add_parked(&mut task);
            lines.enter_recovered(&task);
            provenance.continue_after(task.newest_began_after());
            if !task.fits(bus) {
                machine.of_other_bus.push(task.id);
            }
            tasks.enter_recovered(&task, &row, Group::RECOVERED);
        })?;
        Ok(machine)
    }

    /// Returns the publication with which the read side begins: the whole state.
    /// `recent_ends` are the tasks that ended within the last day.
    pub(crate) fn first_publication(&mut self, recent_ends: Vec<(ProjectId, TaskEnd)>) -> Stored<Publication> {
        let EngineState { lines, projects, provenance, group, .. } = &mut self.state;
        lines.take_changed_queues();
        let paused = lines.paused_projects().iter();
        let paused = paused.map(|project| PauseChange::Project { project: project.clone(), is_paused: true });
        let tiers = lines.paused_tiers().map(|tier| PauseChange::Tier { tier: tier.clone(), is_paused: true });
        let mut publication = Publication {
            version: group.last_finished(),
            pauses: paused.chain(tiers).collect(),
            projects: projects.all_as_changes(recent_ends, provenance, lines),
            queues: lines.queues(),
            graph: Some(provenance.graph().clone()),
            ..Publication::default()
        };
        publication.backlog = Some(housekeeping::backlog(&self.state)?);
        self.add_totals(&mut publication);
        Ok(publication)
    }

    /// Returns the open tasks in a phase that the configured bus does not have, oldest first,
    /// and forgets them. They come from a start on another bus, or an upgrade.
    pub(crate) fn take_tasks_of_other_bus(&mut self) -> Vec<TaskId> {
        let mut tasks = std::mem::take(&mut self.of_other_bus);
        tasks.sort_unstable();
        tasks
    }

    /// Moves a task into a phase that the configured bus has.
    pub(crate) fn change_bus(&mut self, id: TaskId, now: Now) -> Stored<()> {
        unless_refused(self.state.apply(id, Input::ChangeBus, None, now)).map(drop)
    }

    /// The open tasks, oldest first: parents before their subtasks.
    pub(crate) fn open_tasks(&self) -> Vec<TaskId> {
        let mut open: Vec<TaskId> = self.state.tasks.open_ids().collect();
        open.sort_unstable();
        open
    }

    /// Begins the attempt of a task again, if it has one. Returns whether it had one.
    pub(crate) fn begin_again(&mut self, id: TaskId, now: Now) -> Stored<bool> {
        restore::begin_again(&mut self.state, id, now)
    }

    /// Tells a task of the ends of others that it has not learned of. Returns how many.
    pub(crate) fn catch_up(&mut self, id: TaskId, now: Now) -> Stored<u64> {
        restore::catch_up(&mut self.state, id, now)
    }
}
