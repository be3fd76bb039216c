-- What a bill is made of: the terms that were true at the release, and what was seen and told of the run. Durations alone,
-- each within one clock; so a job that another session began is billed like any other. NULL: from before this version.

ALTER TABLE job ADD COLUMN cold_start_ms INTEGER;  -- the expected cold start; 0 where the machine should have been awake
ALTER TABLE job ADD COLUMN keep_warm_ms  INTEGER;  -- the idling afterwards that this job pays
ALTER TABLE job ADD COLUMN hourly        INTEGER;  -- the machine's rate
ALTER TABLE job ADD COLUMN basis         TEXT;     -- how `booked` came about; NULL until the end

ALTER TABLE attempt ADD COLUMN waited_least_ms INTEGER;  -- from the id until last seen in the queue, our clock
ALTER TABLE attempt ADD COLUMN waited_most_ms  INTEGER;  -- from the id until first seen at work, our clock
ALTER TABLE attempt ADD COLUMN lasted_least_ms INTEGER;  -- from the id until last seen unfinished, our clock
ALTER TABLE attempt ADD COLUMN lasted_most_ms  INTEGER;  -- from the id until seen ended, our clock
ALTER TABLE attempt ADD COLUMN told_ms         INTEGER;  -- from taken in until ended, the service's clock
