-- The ledger's format 1. All of it stands in one schema, which every session has as its search path.

-- One row. Whoever leads has raised `term`, and changes nothing once it is another one.
CREATE TABLE ledger (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    format integer NOT NULL,
    -- No second before this one is ever used for a point.
    birth bigint NOT NULL,
    term bigint NOT NULL DEFAULT 0,
    leader text,
    since timestamptz,
    -- The open batch, as a journal's record of its sealing.
    batch text,
    -- How many keys `sent` has.
    sent bigint NOT NULL DEFAULT 0
);

-- Runs that are accepted and not settled, as a journal's records of that, in the order of their acceptance.
CREATE TABLE pending (
    key text COLLATE "C" PRIMARY KEY,
    number bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    accepted_at timestamptz NOT NULL DEFAULT now(),
    run text NOT NULL
) WITH (
    -- Rows come and go: it is swept by how many have gone, however many there are, and at once.
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0
);

-- Keys of runs that were sent, partitioned by the month of their sending. A key stands in one partition alone, for it comes
-- out of `pending`, where it stands once; and each partition's index ends where new keys go in, so that it is looked through
-- at the same cost however much it holds.
CREATE SEQUENCE sent_number;
CREATE TABLE sent (
    key text COLLATE "C" NOT NULL,
    sent_at timestamptz NOT NULL DEFAULT now(),
    -- In order of sending.
    number bigint NOT NULL DEFAULT nextval('sent_number'),
    PRIMARY KEY (key, sent_at)
) PARTITION BY RANGE (sent_at);

-- The last used second of each family of tag sets. Their texts can be longer than an index takes.
CREATE TABLE last_second (
    digest bytea PRIMARY KEY,
    family text NOT NULL,
    second bigint NOT NULL,
    is_historical boolean NOT NULL
);

-- Lines for people, which `replay` takes in: what Datadog refuses for good, and what could not be understood.
CREATE TABLE rejected (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    line text NOT NULL
);

-- A statistic: which tag sets there were, and when runs of them were last accepted.
CREATE TABLE series (
    digest bytea PRIMARY KEY,
    tag_set text NOT NULL,
    seen bigint NOT NULL,
    timed bigint,
    queued bigint,
    told_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX series_told_at ON series (told_at);

-- A plan is kept, and may be of a time when a table had a few rows, all of which it looks through for each key; by the time it is
-- made anew there may be thousands. So keys are compared with an array, or one by one behind an `OFFSET`, which no planner makes a
-- join of: what is left to it then is which index.

-- Whether a key was sent, or where re-runs are dropped, any attempt of its run.
CREATE FUNCTION is_sent(wanted text, drops boolean) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM sent WHERE key = wanted OFFSET 0)
        OR drops AND EXISTS (
            SELECT FROM sent WHERE key = split_part(wanted, '/attempts/', 1)
            UNION ALL
            SELECT FROM sent WHERE key >= split_part(wanted, '/attempts/', 1) || '/attempts/'
                AND key < split_part(wanted, '/attempts/', 1) || '/attempts0'
        )
$$;

-- The same for what is pending.
CREATE FUNCTION is_pending(wanted text, drops boolean) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM pending WHERE key = wanted OFFSET 0)
        OR drops AND EXISTS (
            SELECT FROM pending WHERE key = split_part(wanted, '/attempts/', 1)
            UNION ALL
            SELECT FROM pending WHERE key >= split_part(wanted, '/attempts/', 1) || '/attempts/'
                AND key < split_part(wanted, '/attempts/', 1) || '/attempts0'
        )
$$;

-- Accepts runs, and gives the keys of those that are new.
--
-- First the key is taken, and only then looked for among those sent: whoever sends a run moves its key from the one table to
-- the other, and a key that could be taken again after that is found there, for each statement here sees what was committed
-- before it. Keys are taken in one order, so that two who take the same ones never wait for each other.
CREATE FUNCTION accept(keys text[], runs text[], drops boolean) RETURNS SETOF text LANGUAGE plpgsql
SET enable_seqscan = off AS $$
DECLARE
    taken text[];
    known text[];
BEGIN
    IF drops THEN
        -- No index keeps two attempts of one run apart: one at a time.
        PERFORM pg_advisory_xact_lock(hashtext('runhound ' || current_schema()), 2);
    END IF;
    WITH inserted AS (
        INSERT INTO pending (key, run)
        SELECT t.key, t.run FROM unnest(keys, runs) AS t (key, run)
        WHERE NOT drops OR NOT is_pending(t.key, drops)
        ORDER BY t.key COLLATE "C"
        ON CONFLICT (key) DO NOTHING
        RETURNING key
    )
    SELECT array_agg(inserted.key) INTO taken FROM inserted;
    IF drops THEN
        SELECT array_agg(t.key) INTO known FROM unnest(taken) AS t (key) WHERE is_sent(t.key, drops);
    ELSE
        SELECT array_agg(key) INTO known FROM sent WHERE key = ANY (taken);
    END IF;
    IF known IS NOT NULL THEN
        DELETE FROM pending WHERE key = ANY (known);
    END IF;
    IF known IS NOT NULL OR coalesce(cardinality(taken), 0) < greatest(cardinality(keys), 1) THEN
        -- What was there already may be on its way to a standby still. A commit that writes something waits for it; one that
        -- has nothing to write waits for nothing.
        PERFORM pg_logical_emit_message(true, 'runhound', '');
    END IF;
    RETURN QUERY SELECT t.key FROM unnest(taken) AS t (key) WHERE known IS NULL OR t.key <> ALL (known);
END
$$;

-- Opens a batch, whose slots use these seconds. False if somebody else leads.
CREATE FUNCTION seal(
    my_term bigint, sealed text, digests bytea[], families text[], seconds bigint[], historical boolean[]
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    UPDATE ledger SET batch = sealed WHERE term = my_term;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO last_second AS l (digest, family, second, is_historical)
        SELECT * FROM unnest(digests, families, seconds, historical)
        ON CONFLICT (digest) DO UPDATE SET second = greatest(l.second, excluded.second);
    RETURN true;
END
$$;

-- Takes runs out of the open batch, of which `rest` is left: those of `taken` were sent, those of `refused` are settled without.
-- False if somebody else leads.
CREATE FUNCTION settle(my_term bigint, rest text, taken text[], refused text[]) RETURNS boolean LANGUAGE plpgsql
SET enable_seqscan = off AS $$
DECLARE
    count bigint;
BEGIN
    -- Nobody else takes rows out of `pending` for good.
    PERFORM FROM ledger WHERE term = my_term FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    -- A slot that is sent whole may hold what was sent before.
    INSERT INTO sent (key)
        SELECT t.key FROM unnest(taken) WITH ORDINALITY AS t (key, place)
        WHERE EXISTS (SELECT FROM pending WHERE pending.key = t.key OFFSET 0)
            AND NOT EXISTS (SELECT FROM sent WHERE sent.key = t.key OFFSET 0)
        ORDER BY t.place;
    GET DIAGNOSTICS count = ROW_COUNT;
    DELETE FROM pending WHERE key = ANY (taken || refused);
    UPDATE ledger SET batch = rest, sent = sent + count;
    RETURN true;
END
$$;

-- Makes the partitions of this month and the next two. They are made apart and then attached, which nobody waits for.
CREATE FUNCTION make_partitions() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    month timestamp;
    name text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('runhound ' || current_schema()), 3);
    FOR ahead IN 0..2 LOOP
        month := date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => ahead);
        name := to_char(month, '"sent_"YYYY"_"MM');
        CONTINUE WHEN to_regclass(quote_ident(current_schema()) || '.' || name) IS NOT NULL;
        EXECUTE format('CREATE TABLE %I (LIKE sent INCLUDING ALL)', name);
        EXECUTE format(
            'ALTER TABLE sent ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
            name, month AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC'
        );
    END LOOP;
END
$$;

-- Forgets the keys of the first month that ended more than so many days ago, and gives the name of the partition that is gone.
-- One at a time: while its transaction ends, nobody can look for a key.
CREATE FUNCTION drop_partition(days integer) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    name text;
    count bigint;
BEGIN
    SELECT min(c.relname) INTO name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = (quote_ident(current_schema()) || '.sent')::regclass;
    IF to_date(name, '"sent_"YYYY"_"MM') + interval '1 month' > now() AT TIME ZONE 'UTC' - make_interval(days => days) THEN
        RETURN NULL;
    END IF;
    EXECUTE format('SELECT count(*) FROM %I', name) INTO count;
    UPDATE ledger SET sent = sent - count;
    EXECUTE format('DROP TABLE %I', name);
    RETURN name;
END
$$;
