-- The canonical copy. `{provenance_table}` is `storage.provenance_table`.
--
-- Each row is written by an upsert that is guarded by `change`, the number of
-- the commit whose state it shows. The columns are for people and their
-- queries; the JSONB documents (record, lineage, state, submission, ...) hold
-- the whole, and are what `dats restore --from postgres` reads.

CREATE TABLE {provenance_table} (
    id UUID PRIMARY KEY,
    task_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    status TEXT NOT NULL,

    -- Execution details
    model_used TEXT,
    worker_id TEXT,
    tier TEXT,
    domain TEXT,

    -- Timestamps
    created_at TIMESTAMPTZ NOT NULL,
    started_at TIMESTAMPTZ,
    completed_at TIMESTAMPTZ,

    -- Metrics
    tokens_input NUMERIC,
    tokens_output NUMERIC,
    execution_time_ms NUMERIC,
    confidence NUMERIC,

    -- Taint tracking
    is_tainted BOOLEAN NOT NULL DEFAULT FALSE,
    tainted_at TIMESTAMPTZ,
    tainted_reason TEXT,
    is_suspect BOOLEAN NOT NULL DEFAULT FALSE,

    -- Content
    outputs JSONB,
    inputs_consumed JSONB,
    verification JSONB,

    -- The whole row, and what the provenance graph is built from
    record JSONB NOT NULL,
    lineage JSONB NOT NULL,
    change BIGINT NOT NULL
);
CREATE INDEX ON {provenance_table} (task_id);
CREATE INDEX ON {provenance_table} (project_id);
CREATE INDEX ON {provenance_table} (status);
CREATE INDEX ON {provenance_table} (created_at);

-- Dependency graph for cascade: which record was made from which.
CREATE TABLE artifact_dependencies (
    id BIGSERIAL PRIMARY KEY,
    artifact_id UUID NOT NULL,
    depends_on UUID NOT NULL,
    dependency_type TEXT NOT NULL,
    FOREIGN KEY (artifact_id) REFERENCES {provenance_table} (id),
    FOREIGN KEY (depends_on) REFERENCES {provenance_table} (id),
    UNIQUE (artifact_id, depends_on, dependency_type)
);
CREATE INDEX ON artifact_dependencies (depends_on);

CREATE TABLE projects (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    description TEXT,
    qa_profile TEXT,
    max_concurrent BIGINT,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    archived_at TIMESTAMPTZ,
    paused_at TIMESTAMPTZ,
    version BIGINT NOT NULL,
    document JSONB NOT NULL,
    change BIGINT NOT NULL
);

CREATE TABLE tier_pauses (
    tier TEXT PRIMARY KEY,
    paused_at TIMESTAMPTZ,
    resumed_at TIMESTAMPTZ,
    change BIGINT NOT NULL
);

-- Tasks leave when retention removes them; their provenance stays.
CREATE TABLE tasks (
    id UUID PRIMARY KEY,
    project_id TEXT NOT NULL,
    status TEXT NOT NULL,
    phase TEXT NOT NULL,
    priority TEXT NOT NULL,
    tier TEXT NOT NULL,
    domain TEXT NOT NULL,
    mode TEXT,
    description TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    started_at TIMESTAMPTZ,
    completed_at TIMESTAMPTZ,
    parent_id UUID,
    rerun_of UUID,
    provenance_id UUID,
    error_code TEXT,
    error TEXT,
    version BIGINT NOT NULL,
    submission JSONB NOT NULL,
    state JSONB NOT NULL,
    findings JSONB,
    change BIGINT NOT NULL
);
CREATE INDEX ON tasks (project_id, status);
CREATE INDEX ON tasks (created_at);

-- What has changed flags, in the order of `position`: taints, marks and clears,
-- rollbacks, and what followed from arrivals and verdicts.
CREATE TABLE taint_facts (
    position BIGINT PRIMARY KEY,
    at TIMESTAMPTZ NOT NULL,
    cascade_id TEXT NOT NULL,
    action TEXT NOT NULL,
    record_id UUID,
    artifact_id TEXT,
    checkpoint_id TEXT,
    reason TEXT NOT NULL,
    source TEXT,
    document JSONB NOT NULL,
    change BIGINT NOT NULL
);
CREATE INDEX ON taint_facts (record_id);

-- The audit trail: each flag that one of them has changed.
CREATE TABLE taint_events (
    position BIGINT NOT NULL,
    place BIGINT NOT NULL,
    record_id UUID NOT NULL,
    from_flag TEXT NOT NULL,
    to_flag TEXT NOT NULL,
    depth BIGINT NOT NULL,
    through UUID,
    change BIGINT NOT NULL,
    PRIMARY KEY (position, place)
);
CREATE INDEX ON taint_events (record_id);

CREATE TABLE checkpoints (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    git_ref TEXT,
    provenance_count BIGINT NOT NULL,
    artifact_count BIGINT NOT NULL,
    last_provenance_id TEXT,
    last_task_id TEXT,
    rag_state_ref TEXT,
    work_product_ref TEXT,
    description TEXT,
    trigger TEXT NOT NULL,
    is_valid BOOLEAN NOT NULL,
    rolled_back_at TIMESTAMPTZ,
    document JSONB NOT NULL,
    change BIGINT NOT NULL
);
CREATE INDEX ON checkpoints (project_id, created_at);

-- Contents that outputs carried; filled only with `storage.copy_contents`.
CREATE TABLE artifact_contents (
    sha256 BYTEA PRIMARY KEY,
    content BYTEA NOT NULL,
    change BIGINT NOT NULL
);

-- Whose copy this is and how far it is; one row.
CREATE TABLE replication_state (
    single BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (single),
    -- The store that writes here. Another one is refused.
    store_id UUID NOT NULL,
    -- Counts the restores.
    epoch BIGINT NOT NULL,
    -- Every change up to this commit is here, and the first `done` of the next.
    commit BIGINT NOT NULL,
    done BIGINT NOT NULL,
    -- While the tables are first read: which one, and after which key.
    scan_table TEXT,
    scan_after TEXT,
    -- No row has a larger `change`.
    newest_change BIGINT NOT NULL,
    -- The newest position of the event log at that time.
    log_position BIGINT NOT NULL,
    written_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

-- Rows that this database refused, until `dats verify --repair`.
CREATE TABLE replication_rejects (
    source TEXT NOT NULL,
    key TEXT NOT NULL,
    -- For a dependency that waits for a refused record.
    artifact_id UUID,
    depends_on UUID,
    dependency_type TEXT,
    reason TEXT NOT NULL,
    sqlstate TEXT NOT NULL,
    -- The row as it was to be written: its columns in order, in JSON.
    row_text TEXT NOT NULL,
    rejected_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    change BIGINT NOT NULL,
    PRIMARY KEY (source, key)
);
