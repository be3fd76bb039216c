-- The job whose lost answer this one stands in for: its request may have been charged, so nothing that could be charged may
-- be sent for either of them. A column, in the commit that releases the job; it used to be a note that followed.

ALTER TABLE job ADD COLUMN stands_in_for TEXT REFERENCES job (id);

UPDATE job SET stands_in_for =
    (SELECT lost.id FROM event JOIN job AS lost ON instr(event.note, lost.id) > 0
     WHERE event.job = job.id AND event.kind = 'unanswered' LIMIT 1);
