-- Times are milliseconds since 1970-01-01 UTC, money is millionths of a US dollar, fingerprints
-- are 32 raw bytes, durations end in `_ms`. What decides about a job is a typed column; texts
-- (`event.note`, reasons) are for people, and nothing reads them back. No row is ever deleted
-- except those of `output`: money that was spent stays on the books.

CREATE TABLE session (
    id         INTEGER PRIMARY KEY,
    version    TEXT    NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at   INTEGER,              -- NULL while it runs, and for ever after a crash
    spent      INTEGER NOT NULL DEFAULT 0  -- kept by the triggers below
) STRICT;

CREATE TABLE project (
    id              INTEGER PRIMARY KEY,
    root            TEXT    NOT NULL UNIQUE,
    name            TEXT    NOT NULL,
    baseline_prompt BLOB CHECK (length(baseline_prompt) = 32),
    baseline_render BLOB CHECK (length(baseline_render) = 32),
    first_seen      INTEGER NOT NULL,
    last_seen       INTEGER NOT NULL
) STRICT;

CREATE TABLE job (
    id               TEXT    PRIMARY KEY CHECK (length(id) = 26),
    project          INTEGER NOT NULL REFERENCES project (id),
    session          INTEGER NOT NULL REFERENCES session (id),
    cause            TEXT    NOT NULL,
    state            TEXT    NOT NULL,
    prompt_fp        BLOB    NOT NULL CHECK (length(prompt_fp) = 32),
    render_fp        BLOB    NOT NULL CHECK (length(render_fp) = 32),
    prompt_excerpt   TEXT    NOT NULL,
    workflow         TEXT    NOT NULL,
    workflow_version BLOB    NOT NULL CHECK (length(workflow_version) = 32),
    body_digest      BLOB    NOT NULL CHECK (length(body_digest) = 32),
    body_bytes       INTEGER NOT NULL,
    seed             INTEGER,        -- the 64 bits of an unsigned number
    mesh_seed        INTEGER,        -- likewise
    summary          TEXT    NOT NULL CHECK (json_valid(summary)),
    mode             TEXT    NOT NULL,
    backend          TEXT    NOT NULL,
    deployment       TEXT,
    created_at       INTEGER NOT NULL,
    state_at         INTEGER NOT NULL,
    ended_at         INTEGER,        -- set exactly in the final states
    reason_code      TEXT,
    reason           TEXT,
    replaced_by      TEXT,           -- written before the newer job's own row, so no reference
    retry_of         TEXT REFERENCES job (id),
    -- The job whose lost answer this one stands in for. That request may have been charged, so
    -- nothing that could be charged may be sent for either of them.
    stands_in_for    TEXT REFERENCES job (id),
    -- The earlier job whose artifacts this one shows again, free of charge. It is never sent.
    cached_from      TEXT REFERENCES job (id),
    resubmitted      INTEGER NOT NULL DEFAULT 0,   -- its work was sent again automatically, once
    control          TEXT    NOT NULL DEFAULT 'continue',  -- only ever raised: supersede, cancel
    out              TEXT,           -- a folder of its own for the artifacts
    reserved         INTEGER NOT NULL CHECK (reserved >= 0),
    booked           INTEGER CHECK (booked >= 0),  -- NULL: the reservation counts as spent
    basis            TEXT,           -- how the cost was determined; NULL until the end
    -- The terms of the newest submit, which the bill is computed from.
    cold_start_ms    INTEGER NOT NULL,             -- expected; 0 if the machine should be awake
    keep_warm_ms     INTEGER NOT NULL,             -- the idle time afterwards that this job pays
    hourly           INTEGER NOT NULL,             -- the machine's rate
    cold             INTEGER,
    queue_ms         INTEGER,
    run_ms           INTEGER,
    attempts         INTEGER NOT NULL DEFAULT 0,   -- the number of the newest attempt
    received_bytes   INTEGER NOT NULL DEFAULT 0,   -- downloaded for it, failed downloads included
    rating           INTEGER CHECK (rating BETWEEN 1 AND 5),
    rating_note      TEXT
) STRICT;

CREATE INDEX job_by_time    ON job (created_at);
CREATE INDEX job_by_state   ON job (state, id);
CREATE INDEX job_by_project ON job (project, id);
CREATE INDEX job_by_work    ON job (body_digest, workflow_version) WHERE state = 'done';
CREATE INDEX job_learned    ON job (backend, workflow_version, ended_at, cold, queue_ms, run_ms)
    WHERE state = 'done' AND run_ms IS NOT NULL;

-- What was spent, by the hour of release. Summing a month of jobs took 1.4 ms of the 2 ms that a release has; the
-- triggers keep this true whoever writes, and `Reader::check` compares.
CREATE TABLE tally (
    hour  INTEGER PRIMARY KEY,       -- hours since 1970-01-01 UTC
    spent INTEGER NOT NULL
) STRICT;

CREATE TRIGGER job_reserves AFTER INSERT ON job BEGIN
    UPDATE session SET spent = spent + coalesce(NEW.booked, NEW.reserved) WHERE id = NEW.session;
    INSERT INTO tally (hour, spent) VALUES (NEW.created_at / 3600000, coalesce(NEW.booked, NEW.reserved))
        ON CONFLICT (hour) DO UPDATE SET spent = spent + excluded.spent;
END;

CREATE TRIGGER job_books AFTER UPDATE OF booked, reserved ON job BEGIN
    UPDATE session SET spent = spent + coalesce(NEW.booked, NEW.reserved) - coalesce(OLD.booked, OLD.reserved)
        WHERE id = NEW.session;
    UPDATE tally SET spent = spent + coalesce(NEW.booked, NEW.reserved) - coalesce(OLD.booked, OLD.reserved)
        WHERE hour = NEW.created_at / 3600000;
END;

CREATE TABLE attempt (
    job              TEXT    NOT NULL REFERENCES job (id),
    number           INTEGER NOT NULL,
    backend          TEXT    NOT NULL,
    workflow_version BLOB    NOT NULL CHECK (length(workflow_version) = 32),
    deployment       TEXT,
    request          TEXT,           -- NULL: the backend has not accepted it, as far as is known
    instance         TEXT,
    prepared_at      INTEGER NOT NULL,
    submitting_at    INTEGER NOT NULL,
    submitted_at     INTEGER,
    running_at       INTEGER,
    ended_at         INTEGER,
    busy_at          INTEGER,        -- when a machine was last known to be at work on it
    cancel_at        INTEGER,        -- when the newest cancel of it was sent
    cancel_reason    TEXT,           -- why: superseded, person, queue_timeout, run_timeout
    cancel_outcome   TEXT,           -- what the backend answered
    outcome          TEXT,           -- how it ended; NULL while it has not
    reason           TEXT,           -- why, for people
    waited_least_ms  INTEGER,        -- from the id until last seen in the queue, our clock
    waited_most_ms   INTEGER,        -- from the id until first seen running, our clock
    lasted_least_ms  INTEGER,        -- from the id until last seen unfinished, our clock
    lasted_most_ms   INTEGER,        -- from the id until seen ended, our clock
    reported_ms      INTEGER,        -- from accepted until ended, the service's clock
    PRIMARY KEY (job, number)
) STRICT, WITHOUT ROWID;

CREATE INDEX attempt_activity ON attempt (deployment, busy_at, ended_at) WHERE busy_at IS NOT NULL;

CREATE TABLE event (
    id   INTEGER PRIMARY KEY,
    job  TEXT    NOT NULL REFERENCES job (id),
    at   INTEGER NOT NULL,
    kind TEXT    NOT NULL,           -- a state's name, or what else happened
    note TEXT    NOT NULL
) STRICT;

CREATE INDEX event_by_job ON event (job);

CREATE TABLE artifact (
    job      TEXT    NOT NULL REFERENCES job (id),
    kind     TEXT    NOT NULL,
    path     TEXT    NOT NULL,       -- relative to the history folder, with `/`
    bytes    INTEGER NOT NULL,
    blake3   BLOB    NOT NULL CHECK (length(blake3) = 32),
    vertices INTEGER,
    PRIMARY KEY (job, kind, path)
) STRICT, WITHOUT ROWID;

CREATE TABLE output (
    job   TEXT PRIMARY KEY REFERENCES job (id),
    files TEXT NOT NULL CHECK (json_valid(files))
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
    id      INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    what    TEXT    NOT NULL,
    job     TEXT,
    outcome TEXT    NOT NULL,
    cost    INTEGER NOT NULL
) STRICT;

CREATE INDEX audit_by_job ON audit (job) WHERE job IS NOT NULL;

-- Rented machines. One is in here before anything is sent for it, and until it is `gone` it may cost
-- money. Its address is not in here: it opens the machine to anyone, and can be requested again.
-- Columns of money and time mean what those of `job` mean.

CREATE TABLE machine (
    id               TEXT    PRIMARY KEY CHECK (length(id) = 26),
    session          INTEGER NOT NULL REFERENCES session (id),
    stage            TEXT    NOT NULL,
    account          TEXT    NOT NULL,   -- the service's user id
    server           TEXT,               -- the service's own id, once it is known
    server_type      TEXT    NOT NULL,
    workflow_version TEXT    NOT NULL,   -- the service's id of it
    known_before     TEXT    NOT NULL CHECK (json_valid(known_before)),  -- servers that were there before the launch
    created_at       INTEGER NOT NULL,   -- the mark before the launch
    launched_at      INTEGER,            -- it was answered, or the machine was found
    ready_at         INTEGER,            -- billed from here on; where that was not seen, a time at which it was not ready yet
    ready_seen       INTEGER NOT NULL DEFAULT 0,
    idle_since       INTEGER,            -- NULL while a job has it
    stops_at         INTEGER,            -- when the service stops it by itself, as it last told
    last_seen_at     INTEGER,            -- when the service last said that it lives
    stopping_at      INTEGER,            -- the mark before the stop
    ended_at         INTEGER,            -- the service took the stop, or the machine is known to be gone
    reason_code      TEXT,
    hourly           INTEGER NOT NULL,
    reserved         INTEGER NOT NULL CHECK (reserved >= 0),
    booked           INTEGER CHECK (booked >= 0),   -- NULL: the reservation counts as spent
    basis            TEXT
) STRICT;

CREATE INDEX machine_by_stage ON machine (stage) WHERE stage <> 'gone';
CREATE INDEX machine_by_time  ON machine (created_at);

CREATE TRIGGER machine_reserves AFTER INSERT ON machine BEGIN
    UPDATE session SET spent = spent + coalesce(NEW.booked, NEW.reserved) WHERE id = NEW.session;
    INSERT INTO tally (hour, spent) VALUES (NEW.created_at / 3600000, coalesce(NEW.booked, NEW.reserved))
        ON CONFLICT (hour) DO UPDATE SET spent = spent + excluded.spent;
END;

CREATE TRIGGER machine_books AFTER UPDATE OF booked, reserved ON machine BEGIN
    UPDATE session SET spent = spent + coalesce(NEW.booked, NEW.reserved) - coalesce(OLD.booked, OLD.reserved)
        WHERE id = NEW.session;
    UPDATE tally SET spent = spent + coalesce(NEW.booked, NEW.reserved) - coalesce(OLD.booked, OLD.reserved)
        WHERE hour = NEW.created_at / 3600000;
END;
