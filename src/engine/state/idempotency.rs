//! The idempotency keys that were used within the window.

use std::collections::HashMap;

use super::failure::Stored;
use super::taken_events::Outdated;
use crate::engine::api::IdempotencyKey;
use crate::engine::shared::{ChunkedQueue, ShardedMap};
use crate::store::{Batch, IdempotencyRow};
use crate::task::{Moment, Seq};

/// The idempotency keys that were used within the window.
#[derive(Debug, Default)]
pub(super) struct IdempotencyKeys {
    by_key: ShardedMap<[u8; 16], UsedKey>,
    /// Oldest first.
    order: ChunkedQueue<Use>,
    /// Answers under keys that this group uses first.
    new_answers: HashMap<Seq, Vec<u8>>,
}

/// What is known of a used key.
#[derive(Debug, Clone, Copy)]
pub(super) struct UsedKey {
    /// Hash over the request's body.
    pub(super) body: [u8; 16],
    /// Where the answer is kept.
    pub(super) seq: Seq,
}

/// The first use of a key.
#[derive(Debug, Clone, Copy)]
struct Use {
    seq: Seq,
    at: Moment,
    key: [u8; 16],
}

impl IdempotencyKeys {
    pub(super) fn get(&self, key: &IdempotencyKey) -> Option<UsedKey> {
        self.by_key.get(&key.key).copied()
    }

    /// How many keys are remembered.
    pub(super) const fn len(&self) -> usize {
        self.by_key.len()
    }

    /// When the oldest key was used.
    pub(super) fn oldest(&self) -> Option<Moment> {
        self.order.front().map(|used| used.at)
    }

    /// The encoded answer under a key that this group uses first.
    pub(super) fn new_answer(&self, seq: Seq) -> Option<&[u8]> {
        self.new_answers.get(&seq).map(Vec::as_slice)
    }

    /// Remembers a key with the answer of its request.
    pub(super) fn put(
        &mut self,
        batch: &mut Batch,
        seq: Seq,
        at: Moment,
        key: IdempotencyKey,
        answer: Vec<u8>,
    ) -> Stored<()> {
        let row = IdempotencyRow { at, key: key.key, body: key.body, answer };
        batch.put_idempotency(seq, &row)?;
        self.new_answers.insert(seq, row.answer);
        self.remember(seq, at, key);
        Ok(())
    }

    /// Remembers a key whose row the store has.
    pub(super) fn remember(&mut self, seq: Seq, at: Moment, key: IdempotencyKey) {
        self.by_key.insert(key.key, UsedKey { body: key.body, seq });
        self.order.push_back(Use { seq, at, key: key.key });
    }

    /// Forgets keys that were used before `before`, at most `limit` of them.
    pub(super) fn drop_outdated(&mut self, before: Moment, limit: usize) -> Option<Outdated> {
        let mut outdated: Option<Outdated> = None;
        while let Some(Use { seq, key, .. }) = self.order.front().copied().filter(|used| used.at < before) {
            let rows = outdated.map_or(0, |outdated| outdated.rows);
            if rows >= limit {
                return outdated.map(|outdated| Outdated { has_more: true, ..outdated });
            }
            self.by_key.remove(&key);
            outdated = Some(Outdated { until: seq.next(), rows: rows + 1, has_more: false });
            self.order.pop_front();
        }
        outdated
    }

    /// Ends the group: its answers are read from the store from now on.
    pub(super) fn finish(&mut self) {
        self.new_answers.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_round_forgets_a_limited_number() {
        let second = |n: i64| Moment::from_micros(n * 1_000_000);
        let outdated = |until, rows, has_more| Some(Outdated { until: Seq(until), rows, has_more });
        let mut keys = IdempotencyKeys::default();
        for n in 1..=5 {
            let key = IdempotencyKey { key: [u8::try_from(n).unwrap(); 16], body: [0; 16] };
            keys.remember(Seq(n), second(0), key);
        }
        assert_eq!((keys.drop_outdated(second(1), 2), keys.len()), (outdated(3, 2, true), 3));
        assert_eq!((keys.drop_outdated(second(1), 3), keys.len()), (outdated(6, 3, false), 0));
        assert_eq!(keys.drop_outdated(second(1), 3), None);
    }
}
