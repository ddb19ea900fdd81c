//! The figures of the engine as metrics, read at each scrape.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::clock::Clock;
use crate::engine::{Engine, Estimates, Figures, ReaderLag, WorkQueue};
use crate::store::DeadLetterEnd;
use crate::store::RoomState;
use crate::task::{Now, Phase};

/// Collects the figures of the engine.
#[derive(Debug)]
pub(in crate::http) struct EngineFigures {
    engine: Engine,
    clock: Clock,
}

impl EngineFigures {
    pub(in crate::http) const fn new(engine: Engine, clock: Clock) -> Self {
        Self { engine, clock }
    }
}

impl Collector for EngineFigures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let figures = self.engine.figures();
        let gauges = [
            ("projects", "Projects that exist", figures.projects),
            ("paused_projects", "Projects that are paused", figures.paused_projects),
            ("log_head", "The newest position of the log", figures.head),
            ("log_tail", "The oldest position the log still has", figures.tail),
            ("engine_queued_commands", "Commands that wait for the writer", figures.queued_commands),
            ("engine_longest_commit_milliseconds", "The longest commit since the start", figures.longest_commit_ms),
            (
                "engine_longest_step_microseconds",
                "The longest time since the start that the writer took for a group of commands beside its commit",
                figures.longest_step_micros,
            ),
            ("dead_letters", "Events that could not be taken", figures.dead_letters.kept),
            ("dead_letter_bytes", "Bytes of the events that could not be taken", figures.dead_letters.bytes),
            ("store_bytes", "Size of the store's file", figures.store_bytes),
            ("store_free_mebibytes", "Free space on the disk of the store", figures.free_mib),
            ("hot_tasks", "Tasks whose answer is kept in memory", figures.hot_tasks),
        ];
        for (name, help, value) in gauges {
            gauge(&mut encoder, name, help, value)?;
        }
        room(&mut encoder, figures.room)?;
        counter(&mut encoder, "engine_commits", "Commits since the start", figures.commits)?;
        counter(&mut encoder, "engine_commands", "Commands since the start", figures.commands)?;
        let mut events = encoder.encode_descriptor("events_taken", "Events by outcome", None, MetricType::Counter)?;
        for (outcome, count) in figures.events.by_outcome() {
            ConstCounter::new(count).encode(events.encode_family(&[("outcome", outcome)])?)?;
        }
        let help = "Dead letters that are no longer kept, by why";
        let mut ended = encoder.encode_descriptor("dead_letters_ended", help, None, MetricType::Counter)?;
        for (end, count) in DeadLetterEnd::ALL.iter().zip(figures.dead_letters.ended) {
            ConstCounter::new(count).encode(ended.encode_family(&[("end", end.as_str())])?)?;
        }
        let mut tasks = encoder.encode_descriptor("tasks", "Tasks by phase", None, MetricType::Gauge)?;
        for phase in Phase::ALL {
            let count = signed(figures.counters.phase(phase));
            ConstGauge::new(count).encode(tasks.encode_family(&[("phase", phase.as_str())])?)?;
        }
        estimates(&mut encoder, &figures.estimates)?;
        let now = self.clock.now();
        waits(&mut encoder, &figures, now)?;
        readers(&mut encoder, &figures.readers, now)?;
        queues(&mut encoder, &figures.queues, now)
    }
}

/// Encodes how well the estimates of completed tasks held.
fn estimates(encoder: &mut DescriptorEncoder<'_>, estimates: &Estimates) -> fmt::Result {
    let name = "tasks_completed_by_estimate";
    let mut kept =
        encoder.encode_descriptor(name, "Completed tasks that had an estimate", None, MetricType::Counter)?;
    for (outcome, count) in [("kept", estimates.kept), ("missed", estimates.missed)] {
        ConstCounter::new(count).encode(kept.encode_family(&[("estimate", outcome)])?)?;
    }
    let bounds = Estimates::BOUNDS.into_iter().chain([f64::INFINITY]);
    let classes: Vec<(f64, u64)> = bounds.zip(estimates.ratios).collect();
    let help = "Time that completed tasks took against the time estimated";
    let mut ratio = encoder.encode_descriptor("task_estimate_ratio", help, None, MetricType::Histogram)?;
    ratio.encode_histogram::<NoLabelSet>(estimates.ratio_sum, estimates.kept + estimates.missed, &classes, None)
}

/// Encodes the room on the disk of the store.
fn room(encoder: &mut DescriptorEncoder<'_>, room: RoomState) -> fmt::Result {
    let help = "1 for how much room there is on the disk of the store";
    let mut states = encoder.encode_descriptor("store_room", help, None, MetricType::Gauge)?;
    for state in RoomState::ALL {
        ConstGauge::new(i64::from(state == room)).encode(states.encode_family(&[("state", state.as_str())])?)?;
    }
    Ok(())
}

/// Encodes the age of the longest waiting task of each waiting phase.
fn waits(encoder: &mut DescriptorEncoder<'_>, figures: &Figures, now: Now) -> fmt::Result {
    let help = "Age of the oldest task that waits in a phase";
    let mut ages = encoder.encode_descriptor("tasks_oldest_seconds", help, None, MetricType::Gauge)?;
    for (phase, oldest) in [(Phase::Analyzing, figures.oldest_analyzing), (Phase::Queued, figures.oldest_queued)] {
        let age = oldest.map_or(0.0, |since| now.since(since).as_secs_f64());
        ConstGauge::new(age).encode(ages.encode_family(&[("phase", phase.as_str())])?)?;
    }
    Ok(())
}

/// How far the readers of the log are behind.
fn readers(encoder: &mut DescriptorEncoder<'_>, readers: &[ReaderLag], now: Now) -> fmt::Result {
    let help = "Changes of the log that a reader has not taken";
    let mut changes = encoder.encode_descriptor("log_reader_behind_changes", help, None, MetricType::Gauge)?;
    for reader in readers {
        let label = [("reader", reader.reader.as_str())];
        ConstGauge::new(signed(reader.changes)).encode(changes.encode_family(&label)?)?;
    }
    let help = "Age of the oldest change that a reader has not taken";
    let mut ages = encoder.encode_descriptor("log_reader_behind_seconds", help, None, MetricType::Gauge)?;
    for reader in readers {
        let age = reader.oldest.map_or(0.0, |since| now.since(since).as_secs_f64());
        ConstGauge::new(age).encode(ages.encode_family(&[("reader", reader.reader.as_str())])?)?;
    }
    Ok(())
}

/// Encodes the work queues, by tier.
fn queues(encoder: &mut DescriptorEncoder<'_>, queues: &[WorkQueue], now: Now) -> fmt::Result {
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    by_tier(encoder, ("queue_depth", "Tasks that wait for a worker"), queues, |queue| number(queue.depth))?;
    by_tier(encoder, ("queue_leased", "Tasks that workers hold"), queues, |queue| number(queue.leased))?;
    by_tier(encoder, ("queue_paused", "Whether the tier is paused"), queues, |queue| {
        i64::from(queue.paused_at.is_some())
    })?;
    by_tier(encoder, ("queue_oldest_age_seconds", "How long the oldest waits for a worker"), queues, |queue| {
        queue.oldest_ready.map_or(0.0, |since| now.since(since).as_secs_f64())
    })
}

fn by_tier<N: EncodeGaugeValue>(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    queues: &[WorkQueue],
    value: impl Fn(&WorkQueue) -> N,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for queue in queues {
        ConstGauge::new(value(queue)).encode(family.encode_family(&[("tier", queue.tier.as_str())])?)?;
    }
    Ok(())
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    ConstGauge::new(signed(value)).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    ConstCounter::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
