-- What is to start within a minute of its submit is apart from what waits longer. Among many jobs of its
-- lane that are due in years, one that is due at once would change a page that no other does, which
-- took half of the rate over 10,000 queues that hold a hundred each. The table is read twice for this, once.
DROP INDEX job_ready;
CREATE INDEX job_soon ON job (lane, priority, next_at)
    WHERE state = 0 AND quarantined = 0 AND next_at <= queued_at + 60000000;
CREATE INDEX job_later ON job (lane, priority, next_at)
    WHERE state = 0 AND quarantined = 0 AND next_at > queued_at + 60000000;
