-- Tables of Stillroom 0.3.0 in PostgreSQL: `pg_dump`, without settings and schema names.
CREATE FUNCTION media_dead_letters_delete() RETURNS trigger
    LANGUAGE plpgsql
    AS $$ BEGIN DELETE FROM media_failures WHERE id = OLD.id; RETURN NULL; END $$;

CREATE FUNCTION media_dead_letters_insert() RETURNS trigger
    LANGUAGE plpgsql
    AS $$ BEGIN
    INSERT INTO media_failures (id, kind, payload, created_at, failed_at, attempts, last_error)
    SELECT NEW.id, 'deletion', json_build_object('storage_key', NEW.storage_key, 'save_id',
           NEW.save_id, 'reason', NEW.reason, 'content_hash', encode(NEW.content_hash, 'hex')),
           NEW.created_at, NEW.failed_at, NEW.attempts, NEW.last_error
     WHERE NOT EXISTS (SELECT 1 FROM media_failures known WHERE known.id = NEW.id)
; RETURN NULL; END $$;

CREATE FUNCTION media_failures_delete() RETURNS trigger
    LANGUAGE plpgsql
    AS $$ BEGIN DELETE FROM media_dead_letters WHERE id = OLD.id; RETURN NULL; END $$;

CREATE FUNCTION media_failures_insert() RETURNS trigger
    LANGUAGE plpgsql
    AS $$ BEGIN
    INSERT INTO media_dead_letters
        (id, storage_key, save_id, reason, created_at, failed_at, attempts, last_error)
    SELECT NEW.id, NEW.payload ->> 'storage_key', NEW.payload ->> 'save_id', NEW.payload ->> 'reason', NEW.created_at, NEW.failed_at, NEW.attempts, NEW.last_error
    WHERE NEW.kind = 'deletion'
        AND NOT EXISTS (SELECT 1 FROM media_dead_letters known WHERE known.id = NEW.id)
; RETURN NULL; END $$;

CREATE TABLE alembic_version (
    version_num character varying(32) NOT NULL
);

CREATE TABLE media_dead_letters (
    id uuid NOT NULL,
    storage_key character varying(1024) NOT NULL,
    save_id text NOT NULL,
    reason character varying(32) NOT NULL,
    created_at timestamp with time zone NOT NULL,
    failed_at timestamp with time zone NOT NULL,
    attempts integer NOT NULL,
    last_error text,
    content_hash bytea
);

CREATE TABLE media_deletions (
    id uuid NOT NULL,
    storage_key character varying(1024) NOT NULL,
    save_id text NOT NULL,
    reason character varying(32) NOT NULL,
    resource_id uuid,
    created_at timestamp with time zone NOT NULL,
    due_at timestamp with time zone NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    last_error text,
    claimed_by uuid,
    lease_until timestamp with time zone,
    content_hash bytea
);

CREATE TABLE media_failures (
    id uuid NOT NULL,
    kind character varying(32) NOT NULL,
    payload json NOT NULL,
    created_at timestamp with time zone NOT NULL,
    failed_at timestamp with time zone NOT NULL,
    attempts integer NOT NULL,
    last_error text
);

CREATE TABLE media_healing (
    resource_id uuid NOT NULL,
    due_at timestamp with time zone NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    reread boolean DEFAULT false NOT NULL
);

CREATE TABLE media_intents (
    media_key character varying(1024) NOT NULL,
    resource_id uuid NOT NULL,
    source_key character varying(1024) NOT NULL,
    created_at timestamp with time zone NOT NULL,
    lease_until timestamp with time zone NOT NULL,
    sweeping boolean DEFAULT false NOT NULL
);

CREATE TABLE media_resources (
    id uuid NOT NULL,
    resource_type character varying(32) NOT NULL,
    storage_key character varying(1024) NOT NULL,
    save_id text NOT NULL,
    content_hash bytea NOT NULL,
    extension character varying(16) NOT NULL,
    content_type character varying(255) NOT NULL,
    file_size bigint NOT NULL,
    width integer NOT NULL,
    height integer NOT NULL,
    color_profile character varying(255),
    protected boolean DEFAULT false NOT NULL,
    alt_text text,
    caption text,
    created_at timestamp with time zone NOT NULL,
    deleted_at timestamp with time zone,
    source_key character varying(1024),
    duration double precision,
    dominant_color character varying(7),
    ai_mark character varying(8)
);

CREATE TABLE media_run_deletions (
    folder character varying(1024) NOT NULL,
    saved_until timestamp with time zone NOT NULL,
    after character varying(1024) NOT NULL,
    marked bigint NOT NULL,
    kept bigint NOT NULL,
    newer bigint NOT NULL,
    claimed_by uuid,
    lease_until timestamp with time zone
);

CREATE TABLE media_scans (
    name character varying(32) NOT NULL,
    after character varying(1024) NOT NULL,
    next_at timestamp with time zone NOT NULL,
    claimed_by uuid,
    lease_until timestamp with time zone
);

CREATE TABLE media_tags (
    resource_id uuid NOT NULL,
    tag character varying(64) NOT NULL
);

CREATE TABLE search_images (
    id bigint NOT NULL,
    storage_key character varying(1024) NOT NULL COLLATE pg_catalog."C",
    saved_ns bigint NOT NULL,
    size bigint NOT NULL,
    etag text NOT NULL,
    content_type character varying(255) NOT NULL,
    sha256 bytea,
    save_id text NOT NULL,
    generation text,
    ai_mark character varying(16),
    words tsvector
);

ALTER TABLE ONLY alembic_version ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);

ALTER TABLE ONLY media_dead_letters ADD CONSTRAINT pk_media_dead_letters PRIMARY KEY (id);

ALTER TABLE ONLY media_deletions ADD CONSTRAINT pk_media_deletions PRIMARY KEY (id);

ALTER TABLE ONLY media_failures ADD CONSTRAINT pk_media_failures PRIMARY KEY (id);

ALTER TABLE ONLY media_healing ADD CONSTRAINT pk_media_healing PRIMARY KEY (resource_id);

ALTER TABLE ONLY media_intents ADD CONSTRAINT pk_media_intents PRIMARY KEY (media_key);

ALTER TABLE ONLY media_resources ADD CONSTRAINT pk_media_resources PRIMARY KEY (id);

ALTER TABLE ONLY media_run_deletions ADD CONSTRAINT pk_media_run_deletions PRIMARY KEY (folder);

ALTER TABLE ONLY media_scans ADD CONSTRAINT pk_media_scans PRIMARY KEY (name);

ALTER TABLE ONLY media_tags ADD CONSTRAINT pk_media_tags PRIMARY KEY (resource_id, tag);

ALTER TABLE ONLY search_images ADD CONSTRAINT pk_search_images PRIMARY KEY (id);

ALTER TABLE ONLY media_deletions ADD CONSTRAINT uq_media_deletions_storage_key UNIQUE (storage_key, save_id);

ALTER TABLE ONLY media_resources ADD CONSTRAINT uq_media_resources_content_hash UNIQUE (content_hash);

ALTER TABLE ONLY search_images ADD CONSTRAINT uq_search_images_storage_key UNIQUE (storage_key);

CREATE INDEX ix_media_dead_letters_failed_at ON media_dead_letters USING btree (failed_at);

CREATE INDEX ix_media_deletions_due_at ON media_deletions USING btree (due_at);

CREATE INDEX ix_media_deletions_resource_id ON media_deletions USING btree (resource_id);

CREATE INDEX ix_media_healing_due_at ON media_healing USING btree (due_at);

CREATE INDEX ix_media_intents_lease_until ON media_intents USING btree (lease_until);

CREATE INDEX ix_media_resources_created_at ON media_resources USING btree (created_at);

CREATE INDEX ix_media_resources_source_key ON media_resources USING btree (source_key);

CREATE INDEX ix_media_resources_storage_key ON media_resources USING btree (storage_key);

CREATE INDEX ix_media_tags_tag ON media_tags USING btree (tag, resource_id);

CREATE INDEX ix_search_images_words ON search_images USING gin (words);

CREATE TRIGGER media_dead_letters_delete AFTER DELETE ON media_dead_letters FOR EACH ROW EXECUTE FUNCTION media_dead_letters_delete();

CREATE TRIGGER media_dead_letters_insert AFTER INSERT ON media_dead_letters FOR EACH ROW EXECUTE FUNCTION media_dead_letters_insert();

CREATE TRIGGER media_failures_delete AFTER DELETE ON media_failures FOR EACH ROW EXECUTE FUNCTION media_failures_delete();

CREATE TRIGGER media_failures_insert AFTER INSERT ON media_failures FOR EACH ROW EXECUTE FUNCTION media_failures_insert();

ALTER TABLE ONLY media_deletions ADD CONSTRAINT fk_media_deletions_resource_id FOREIGN KEY (resource_id) REFERENCES media_resources(id) ON DELETE SET NULL;

ALTER TABLE ONLY media_tags ADD CONSTRAINT fk_media_tags_resource_id FOREIGN KEY (resource_id) REFERENCES media_resources(id) ON DELETE CASCADE;

INSERT INTO alembic_version VALUES ('0011');
