-- Entries of other audit trails that were imported, in the order in which they
-- came. `original` is the entry as it was: JSON, with its keys in their order.
CREATE TABLE imported_taint_events (
    number BIGINT PRIMARY KEY,
    event_id TEXT NOT NULL,
    artifact_id TEXT,
    record_id UUID,
    cascade_id TEXT NOT NULL,
    digest BYTEA NOT NULL,
    original TEXT NOT NULL,
    change BIGINT NOT NULL
);
CREATE INDEX ON imported_taint_events (record_id);
