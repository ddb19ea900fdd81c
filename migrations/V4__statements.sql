-- What cascades have said of a record, where the fact in `lineage` does not say
-- it all, and what a rollback has done to checkpoints: taking a cascade back
-- needs both.
ALTER TABLE {provenance_table} ADD COLUMN statements JSONB;
ALTER TABLE taint_facts ADD COLUMN rollback JSONB;
