-- What a job moved over the network: the size of its request, and what was downloaded for it, also in vain.

ALTER TABLE job ADD COLUMN body_bytes INTEGER;                       -- NULL: released by an older version
ALTER TABLE job ADD COLUMN received_bytes INTEGER NOT NULL DEFAULT 0;

-- A job's own audit rows, for its story.
CREATE INDEX audit_by_job ON audit (job) WHERE job IS NOT NULL;
