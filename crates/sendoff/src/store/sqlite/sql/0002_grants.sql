-- What the starts of jobs may reach, as JSON: texts that many jobs share.
CREATE TABLE granted (
    id INTEGER PRIMARY KEY,
    reach TEXT NOT NULL UNIQUE
) STRICT;
-- NULL: whatever the starters' policy allows.
ALTER TABLE job ADD COLUMN granted INTEGER;

-- Few rows or none: counted, and listed in the order of insertion as job_starting is.
CREATE INDEX job_quarantined ON job (quarantined) WHERE quarantined = 1;
CREATE INDEX job_unresolved ON job (state) WHERE state = 6;

-- What queues are held to, as JSON.
CREATE TABLE queue_limits (
    queue TEXT PRIMARY KEY,
    limits TEXT NOT NULL
) STRICT, WITHOUT ROWID;
