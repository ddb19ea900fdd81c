//! The side that publishes: reads the log, sends what is due in waves, and
//! moves its place in the log behind what the broker has confirmed.
//!
//! A wave is sent and then waited for, whole. That is what makes returned
//! messages certain: the client library can give a message that came back to
//! the confirm of another one, so a confirm says nothing by itself. Once
//! every confirm of the wave is there, so is everything that came back.

mod lost;
mod refusals;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lapin::Channel;
use lapin::options::ConfirmSelectOptions;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::broker::{Broker, Side};
use super::connection::{Error, Link, step, unless_stopped};
use super::outbox::{Event, Outbox};
use super::outgoing::{self, Letter, MAX_MESSAGE_BYTES, Message};
use super::search::Search;
use super::settings::Settings;
use super::topology;
use super::wave::{LOOK, Patience, Sent, Wave, state_of, transmit};
use crate::clock::Clock;
use crate::engine::{Dispatch, Engine, LogReader, Position};
use crate::events::Envelope;
use crate::store::LogEntry;
use crate::task::{Change, Moment, Seq, Tier};

/// Log entries read at once.
const PAGE: usize = 1024;
/// How long messages gather after a wave: so much for each message in it, so
/// that one that is alone hardly waits and a stream makes few waves, and at
/// most so much in all. A wave costs the broker a write to disk, and both of us
/// time that others on the machine need.
const GATHER_EACH: Duration = Duration::from_millis(1);
const GATHER: Duration = Duration::from_millis(25);
/// How often queues that took nothing are declared again, in case somebody
/// has deleted them.
const REDECLARE: Duration = Duration::from_secs(5);

/// A message for the dead-letter exchange, and who waits for it to be there.
#[derive(Debug)]
pub(super) struct Posted {
    pub(super) letter: Letter,
    pub(super) confirmed: oneshot::Sender<()>,
}

/// The same on its way.
struct Post {
    message: Message,
    confirmed: oneshot::Sender<()>,
}

/// What the broker made of a wave.
enum Answer {
    /// Each of its messages was confirmed, or nacked.
    Taken,
    /// Some came back: no queue took them.
    Returned,
    /// One of them is refused for itself; the channel has gone.
    Refused,
}

/// The side that publishes.
pub(super) struct Publisher {
    engine: Engine,
    reader: LogReader,
    settings: Arc<Settings>,
    broker: Arc<Broker>,
    clock: Clock,
    envelope: Envelope,
    outbox: Outbox,
    /// What goes next.
    next: Wave,
    /// Looks for a message that the broker refuses for itself.
    search: Search,
    /// Dispatches from before the reader joined that are not published yet;
    /// `None`: they have not been looked up.
    earlier: Option<usize>,
    letters: mpsc::Receiver<Posted>,
    posts: Vec<Post>,
    /// When the log was read to its end.
    read_at: Option<Moment>,
    /// When the topology was last declared.
    declared_at: Option<Moment>,
    /// Whose work queues were not there then.
    emptied: BTreeSet<Tier>,
    stop: CancellationToken,
}

impl Publisher {
    pub(super) fn new(
        (engine, reader): (Engine, LogReader),
        settings: Arc<Settings>,
        (broker, clock): (Arc<Broker>, Clock),
        letters: mpsc::Receiver<Posted>,
        stop: CancellationToken,
    ) -> Self {
        let place = reader.place();
        Self {
            envelope: Envelope::new(engine.store_id()),
            outbox: Outbox::new(place.read_to),
            next: Wave::default(),
            search: Search::default(),
            earlier: place.begun.then_some(0),
            engine,
            reader,
            settings,
            broker,
            clock,
            letters,
            posts: Vec::new(),
            read_at: None,
            declared_at: None,
            emptied: BTreeSet::new(),
            stop,
        }
    }

    /// Publishes over one connection until it fails or until the stop.
    pub(super) async fn serve(&mut self) -> Result<(), Error> {
        let link = unless_stopped(&self.stop, Link::open(&self.settings, "publishing")).await?;
        let result = self.serve_over(&link).await;
        link.close().await;
        result
    }

    async fn serve_over(&mut self, link: &Link) -> Result<(), Error> {
        self.declare(link).await?;
        let mut channel = confirming(link).await?;
        let mut head = self.engine.log().head();
        while !self.stop.is_cancelled() {
            if !link.is_connected() || !channel.status().connected() {
                return Err(Error::Away("the connection was lost".to_owned()));
            }
            self.broker.note_state(Side::Publisher, state_of(link));
            if link.is_blocked() {
                sleep(LOOK).await;
                continue;
            }
            if self.broker.take_missing_queue() {
                self.declare(link).await?;
            }
            head.borrow_and_update();
            self.prepare().await?;
            self.replace_lost().await?;
            self.publish_lost_again().await;
            // What was read and is not out yet: nobody can have taken it while the wave is under way.
            self.report();
            self.collect_letters();
            if self.next.is_empty() && self.posts.is_empty() {
                let until = self.outbox.next_due().map_or(LOOK, |at| at.since(self.clock.observed()).min(LOOK));
                tokio::select! {
                    () = self.stop.cancelled() => {}
                    changed = head.changed() => changed.map_err(|_| Error::Stopping)?,
                    Some(posted) = self.letters.recv() => self.post(posted),
                    () = sleep(until) => {}
                }
                continue;
            }
            let sent = self.next.len() + self.posts.len();
            match self.send(link, &channel).await? {
                Answer::Taken => {}
                Answer::Returned => self.redeclare(link).await?,
                Answer::Refused => channel = confirming(link).await?,
            }
            self.gather(sent).await;
        }
        Ok(())
    }

    /// Lets the next messages come together, unless there are plenty.
    async fn gather(&self, sent: usize) {
        let pause = GATHER_EACH.saturating_mul(u32::try_from(sent).unwrap_or(u32::MAX)).min(GATHER);
        if sent < self.settings.window {
            let _ = tokio::time::timeout(pause, self.stop.cancelled()).await;
        }
    }

    async fn declare(&mut self, link: &Link) -> Result<(), Error> {
        // What is missing from here on is found by the next look.
        self.broker.take_missing_queue();
        let missing = unless_stopped(&self.stop, topology::declare_for_publishing(link, &self.settings)).await?;
        self.emptied.extend(missing);
        self.declared_at = Some(self.clock.observed());
        Ok(())
    }

    /// A queue of ours that took nothing may have been deleted.
    async fn redeclare(&mut self, link: &Link) -> Result<(), Error> {
        let now = self.clock.observed();
        let lately = self.declared_at.is_some_and(|at| now.since(at) < REDECLARE);
        if lately || !self.settings.work_queues.declare { Ok(()) } else { self.declare(link).await }
    }

    /// Reads on, until there is enough for a wave or the log ends.
    async fn fill(&mut self) -> Result<(), Error> {
        if self.earlier.is_none() {
            let joined = self.reader.place().joined;
            let mut earlier = self.engine.broker().dispatched().await?;
            earlier.retain(|dispatch| dispatch.position.seq <= joined);
            self.earlier = Some(earlier.len());
            for Dispatch { position, tier, at } in earlier {
                self.outbox.push(Event::new(joined, position, Some((tier, at))));
            }
        }
        while self.outbox.wants_more(self.settings.window) {
            // A group that began before now may not be committed yet.
            let committed_at = self.engine.broker().committed_at();
            let page = self.reader.page(self.outbox.read_to(), PAGE).await?;
            if page.entries.is_empty() {
                self.outbox.note_read(page.read_to);
                self.read_at = Some(committed_at).max(self.read_at);
                return Ok(());
            }
            self.read_at = page.entries.last().map(|(_, entry)| entry.moment()).max(self.read_at);
            // A dispatch was announced before: in another run, to workers that lease.
            let dispatches = page.entries.iter().filter(|(_, entry)| matches!(entry.change, Change::Dispatched));
            let dispatches = dispatches.filter_map(|(seq, entry)| Some((entry.task()?, *seq))).collect();
            let announced = self.engine.broker().newest_dispatches(dispatches).await?;
            let mut announced = announced.into_iter();
            for (seq, entry) in &page.entries {
                let is_dispatch = matches!(entry.change, Change::Dispatched) && entry.task().is_some();
                let before = if is_dispatch { announced.next().flatten() } else { None };
                if let Some(event) = event_of(*seq, entry, before) {
                    self.outbox.push(event);
                }
                self.outbox.note_read(*seq);
            }
        }
        Ok(())
    }

    fn post(&mut self, Posted { letter, confirmed }: Posted) {
        self.posts.push(Post { message: letter.into_message(&self.settings), confirmed });
    }

    fn collect_letters(&mut self) {
        while self.posts.len() < self.settings.window {
            let Ok(posted) = self.letters.try_recv() else { break };
            self.post(posted);
        }
    }

    /// Reads and renders what goes next, unless that is done.
    async fn prepare(&mut self) -> Result<(), Error> {
        while self.next.is_empty() {
            self.fill().await?;
            let most = self.search.most().unwrap_or(self.settings.window);
            let taken = self.outbox.take(most, self.clock.observed());
            if taken.is_empty() {
                return Ok(());
            }
            let positions = taken.iter().map(|event| event.position).collect();
            let logged = match self.engine.broker().events_at(positions).await {
                Ok(logged) => logged,
                Err(error) => {
                    self.all_again(&taken);
                    return Err(error.into());
                }
            };
            // Large events make short waves: the rest comes with the next one.
            self.all_again(taken.get(logged.len()..).unwrap_or_default());
            for (event, logged) in taken.into_iter().zip(logged) {
                let message = logged.and_then(|logged| outgoing::message(&logged, &self.envelope, &self.settings));
                match message {
                    Some(message) if message.payload.len() > MAX_MESSAGE_BYTES => {
                        self.hold(&event, &message, &format!("at most {MAX_MESSAGE_BYTES} bytes are published"));
                    }
                    Some(message) => self.next.push(event, message),
                    None => {
                        tracing::warn!(position = %event.position.seq, "an event can't be published, its task is gone");
                        self.outbox.published(&event);
                    }
                }
            }
        }
        Ok(())
    }

    /// Sends the next wave and waits for all of it. Where more waits, the wave behind
    /// it is made ready meanwhile.
    async fn send(&mut self, link: &Link, channel: &Channel) -> Result<Answer, Error> {
        let (mut wave, mut posts) = (std::mem::take(&mut self.next), std::mem::take(&mut self.posts));
        let mut later = Vec::new();
        if let Some(most) = self.search.most().filter(|_| !posts.is_empty()) {
            // While a message is looked for, dead letters go by themselves.
            self.next = std::mem::take(&mut wave);
            later = posts.split_off(most.min(posts.len()));
        }
        let is_full = wave.len() >= self.settings.window;
        let patience = Patience::new(&self.broker, self.settings.confirm_timeout, &self.stop);
        let messages = wave.messages.iter().chain(posts.iter().map(|post| &post.message));
        let sending = patience.wait(link, transmit(channel, messages));
        let (sent, prepared) = tokio::join!(sending, async { if is_full { self.prepare().await } else { Ok(()) } });
        let sent = match sent {
            Ok(sent) => sent,
            Err(Error::Message(reason)) => {
                self.settle_refused(wave, posts, &reason).await;
                self.posts.extend(later);
                return prepared.map(|()| Answer::Refused);
            }
            Err(error) => {
                self.all_again(&wave.events);
                self.posts.extend(posts);
                self.posts.extend(later);
                return Err(error);
            }
        };
        self.search.taken(self.settings.window);
        self.settle_posts(posts, sent.get(wave.len()..).unwrap_or_default());
        self.posts.extend(later);
        let answer = self.settle(&wave.events, &sent).await;
        prepared.and(answer)
    }

    fn all_again(&mut self, events: &[Event]) {
        let now = self.clock.observed();
        for event in events {
            self.outbox.again(event, false, now);
        }
    }

    async fn settle(&mut self, events: &[Event], sent: &[Sent]) -> Result<Answer, Error> {
        let now = self.clock.observed();
        let (mut published, mut returned, mut nacked) = (0, 0, 0);
        let back = events.iter().zip(sent).filter(|(_, sent)| matches!(sent, Sent::Returned));
        let waiting = self.engine.broker().still_waiting(back.map(|(event, _)| event.position).collect()).await.ok();
        for (event, sent) in events.iter().zip(sent) {
            match sent {
                Sent::Confirmed => {
                    published += 1;
                    self.note_published(event);
                }
                Sent::Returned => {
                    returned += 1;
                    // What nobody needs any more need not reach anybody.
                    if waiting.as_ref().is_none_or(|waiting| waiting.contains_key(&event.position)) {
                        self.outbox.again(event, true, now);
                    } else {
                        self.note_published(event);
                    }
                }
                Sent::Nacked => {
                    nacked += 1;
                    self.outbox.again(event, true, now);
                }
            }
        }
        if returned > 0 {
            tracing::debug!(returned, "no queue took some tasks; they are published again");
        }
        let held = u64::try_from(self.outbox.held()).unwrap_or(u64::MAX);
        self.broker.count(|figures| {
            figures.published += published;
            figures.returned += returned;
            figures.nacked += nacked;
            figures.held = held;
        });
        self.report();
        Ok(if returned > 0 { Answer::Returned } else { Answer::Taken })
    }

    fn note_published(&mut self, event: &Event) {
        self.outbox.published(event);
        if event.order == self.reader.place().joined
            && let Some(left) = &mut self.earlier
        {
            *left = left.saturating_sub(1);
        }
    }

    fn settle_posts(&mut self, posts: Vec<Post>, sent: &[Sent]) {
        for (post, sent) in posts.into_iter().zip(sent) {
            match sent {
                // Who waited may have gone with its connection.
                Sent::Confirmed | Sent::Returned => drop(post.confirmed.send(())),
                Sent::Nacked => self.posts.push(post),
            }
        }
    }

    /// Tells the log and the others how far publishing is.
    fn report(&self) {
        if self.earlier == Some(0) {
            self.reader.begin();
        }
        self.reader.move_to(self.outbox.place());
        self.broker.note_frontier(self.outbox.frontier(self.read_at));
    }
}

/// A channel on which the broker confirms messages.
async fn confirming(link: &Link) -> Result<Channel, Error> {
    let channel = link.channel().await?;
    step("ask for confirms", channel.confirm_select(ConfirmSelectOptions::default())).await?;
    Ok(channel)
}

/// What is to be published because of a change, if anything: `announced` is where
/// the `task.ready` of a dispatch stands, and the tier that it names.
fn event_of(seq: Seq, entry: &LogEntry, announced: Option<(Position, Tier)>) -> Option<Event> {
    let own = Position { seq, task: entry.task() };
    let (position, tier) = match &entry.change {
        Change::Dispatched => announced.map(|(position, tier)| (position, Some(tier)))?,
        Change::Ready { tier, .. } => (own, Some(tier.clone())),
        Change::Accepted { .. } if !entry.on_bus => (own, None),
        change if change.is_published() => (own, None),
        _ => return None,
    };
    Some(Event::new(seq, position, tier.map(|tier| (tier, entry.moment()))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{About, Standing};
    use crate::task::{Phase, ProjectId, Status, TaskId, Timestamp};

    /// A task that was announced to workers that lease, and is dispatched after the
    /// switch: its deadline must not run before the broker has it.
    #[test]
    fn a_dispatch_that_was_announced_before_waits_for_the_broker_as_others_do() {
        let (task, tier) = (TaskId::from_bytes([1; 16]), Tier::new("small").unwrap());
        let observed = Moment::from_micros(5);
        let entry = LogEntry {
            at: Timestamp::from_micros(5),
            project: ProjectId::new("p").unwrap(),
            about: About::Task(Standing {
                task,
                version: 2,
                status: Status::Pending,
                phase: Phase::Dispatched,
                attempt: 1,
            }),
            change: Change::Dispatched,
            event: None,
            on_bus: false,
            observed,
        };
        let announced = Position { seq: Seq(3), task: Some(task) };
        let event = event_of(Seq(9), &entry, Some((announced, tier.clone()))).unwrap();
        assert_eq!(event, Event::new(Seq(9), announced, Some((tier.clone(), observed))));
        let mut outbox = Outbox::new(Seq(8));
        outbox.push(event);
        assert_eq!(outbox.frontier(Some(observed)).oldest_unpublished.get(&tier), Some(&observed));
        assert_eq!(event_of(Seq(9), &entry, None), None);
    }
}
