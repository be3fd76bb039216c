-- Rented machines. One is in here before anything is sent for it, and until it is `gone` it may cost money. Its address is not
-- in here: it opens the machine to anybody, and can be asked for again. Columns of money and time mean what those of `job` mean.

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
