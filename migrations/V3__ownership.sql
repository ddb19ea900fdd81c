-- The owner writes a sign of life every few seconds: where it can be reached,
-- and when it was last seen, by the clock of this database.
ALTER TABLE replication_state ADD COLUMN owner_address TEXT;
ALTER TABLE replication_state ADD COLUMN seen_at TIMESTAMPTZ;
-- Whether the work queue of the tier at the broker ever had a consumer.
ALTER TABLE tier_pauses ADD COLUMN had_consumer BOOLEAN NOT NULL DEFAULT FALSE;
