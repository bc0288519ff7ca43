-- Instants are microseconds since 1970. States are places in State::ALL: 0 pending, 1 starting,
-- 2 started, 3 failed, 4 cancelled, 5 expired, 6 unknown. Deliveries: 0 at_most_once, 1 at_least_once.

CREATE TABLE lane (
    id INTEGER PRIMARY KEY,
    queue TEXT NOT NULL,
    starter TEXT NOT NULL,
    -- '' for none, else '=' and the destination: never NULL, so that row values compare.
    destination TEXT NOT NULL,
    -- 1 if it may have pending jobs; cleared when a look finds none.
    busy INTEGER NOT NULL DEFAULT 0,
    UNIQUE (queue, starter, destination)
) STRICT;
CREATE INDEX lane_busy ON lane (queue, starter, destination) WHERE busy = 1;

-- Nodes and submitters: texts that many rows share.
CREATE TABLE actor (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

-- What changes and what guards read comes first, so that reading it does not walk over the request.
CREATE TABLE job (
    id INTEGER PRIMARY KEY,
    state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 6),
    quarantined INTEGER NOT NULL DEFAULT 0 CHECK (quarantined IN (0, 1)),
    lane INTEGER NOT NULL,
    priority INTEGER NOT NULL CHECK (priority BETWEEN 0 AND 9),
    delivery INTEGER NOT NULL CHECK (delivery IN (0, 1)),
    fence INTEGER NOT NULL CHECK (fence >= 0),
    attempt INTEGER NOT NULL CHECK (attempt BETWEEN 0 AND fence),
    max_attempts INTEGER NOT NULL CHECK (max_attempts >= 1),
    crashes INTEGER NOT NULL DEFAULT 0 CHECK (crashes >= 0),
    possible_duplicate INTEGER NOT NULL DEFAULT 0 CHECK (possible_duplicate IN (0, 1)),
    queued_at INTEGER NOT NULL,
    run_at INTEGER NOT NULL,
    next_at INTEGER NOT NULL,
    expires_at INTEGER,
    ended_at INTEGER,
    cancel_requested_at INTEGER,
    claimed_at INTEGER,
    node INTEGER,
    starting_at INTEGER CHECK (starting_at > queued_at),
    started_at INTEGER CHECK (started_at >= starting_at),
    wait_us INTEGER,
    clock_skew_us INTEGER NOT NULL DEFAULT 0,
    receipt_status INTEGER,
    receipt_pid INTEGER,
    error_class INTEGER,
    error_message TEXT,
    error_at INTEGER,
    submitted_by INTEGER,
    own_guid INTEGER NOT NULL CHECK (own_guid IN (0, 1)),
    guid BLOB NOT NULL CHECK (length(guid) = 16),
    idempotency_key TEXT,
    request TEXT NOT NULL,
    CHECK ((state > 1) = (ended_at IS NOT NULL)),
    CHECK (state <> 1 OR (fence > 0 AND claimed_at IS NOT NULL AND node IS NOT NULL)),
    -- Only an operator says "started" without knowing when.
    CHECK (state <> 2 OR started_at IS NOT NULL OR possible_duplicate = 1)
) STRICT;

-- Each of these holds only the rows that some call walks; a row that is done leaves the first four.
CREATE INDEX job_due ON job (next_at) WHERE state = 0 AND quarantined = 0;
CREATE INDEX job_ready ON job (lane, priority, next_at) WHERE state = 0 AND quarantined = 0;
CREATE INDEX job_deadline ON job (expires_at)
    WHERE state = 0 AND quarantined = 0 AND expires_at IS NOT NULL;
CREATE INDEX job_starting ON job (state) WHERE state = 1;
CREATE INDEX job_ended ON job (ended_at, submitted_by) WHERE state BETWEEN 2 AND 5;
CREATE INDEX job_unknown ON job (ended_at, submitted_by) WHERE state = 6;
-- Guids that sendoff made ascend; those that clients chose are in name_index.
CREATE UNIQUE INDEX job_own_guid ON job (guid) WHERE own_guid = 1;

-- Guids and idempotency keys that clients chose: see names.rs. A name is a byte for its kind
-- (0 guid, 1 key) and 16 bytes.
CREATE TABLE name_index (
    name BLOB PRIMARY KEY,
    job INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
-- The newest of them in the order of their coming; no job: the name was given up.
CREATE TABLE name_log (
    seq INTEGER PRIMARY KEY,
    name BLOB NOT NULL,
    job INTEGER
) STRICT;

CREATE TABLE counts (
    queue TEXT NOT NULL,
    state INTEGER NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (queue, state)
) STRICT, WITHOUT ROWID;

CREATE TABLE bookmark (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
