-- Tables of Stillroom 0.3.0 in SQLite: the column `sql` of `sqlite_schema`.
CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL,
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);

CREATE TABLE media_resources (
    id CHAR(32) NOT NULL,
    resource_type VARCHAR(32) NOT NULL,
    storage_key VARCHAR(1024) NOT NULL,
    save_id TEXT NOT NULL,
    content_hash BLOB NOT NULL,
    extension VARCHAR(16) NOT NULL,
    content_type VARCHAR(255) NOT NULL,
    file_size BIGINT NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    color_profile VARCHAR(255),
    protected BOOLEAN DEFAULT 0 NOT NULL,
    alt_text TEXT,
    caption TEXT,
    created_at DATETIME NOT NULL,
    deleted_at DATETIME, source_key VARCHAR(1024), duration DOUBLE, dominant_color VARCHAR(7), ai_mark VARCHAR(8),
    CONSTRAINT pk_media_resources PRIMARY KEY (id),
    CONSTRAINT uq_media_resources_content_hash UNIQUE (content_hash)
);

CREATE INDEX ix_media_resources_storage_key ON media_resources (storage_key);

CREATE INDEX ix_media_resources_created_at ON media_resources (created_at);

CREATE TABLE media_intents (
    media_key VARCHAR(1024) NOT NULL,
    resource_id CHAR(32) NOT NULL,
    source_key VARCHAR(1024) NOT NULL,
    created_at DATETIME NOT NULL,
    lease_until DATETIME NOT NULL,
    sweeping BOOLEAN DEFAULT 0 NOT NULL,
    CONSTRAINT pk_media_intents PRIMARY KEY (media_key)
);

CREATE INDEX ix_media_intents_lease_until ON media_intents (lease_until);

CREATE TABLE media_deletions (
    id CHAR(32) NOT NULL,
    storage_key VARCHAR(1024) NOT NULL,
    save_id TEXT NOT NULL,
    reason VARCHAR(32) NOT NULL,
    resource_id CHAR(32),
    created_at DATETIME NOT NULL,
    due_at DATETIME NOT NULL,
    attempts INTEGER DEFAULT '0' NOT NULL,
    last_error TEXT,
    claimed_by CHAR(32),
    lease_until DATETIME, content_hash BLOB,
    CONSTRAINT pk_media_deletions PRIMARY KEY (id),
    CONSTRAINT uq_media_deletions_storage_key UNIQUE (storage_key, save_id),
    CONSTRAINT fk_media_deletions_resource_id FOREIGN KEY(resource_id) REFERENCES media_resources (id) ON DELETE SET NULL
);

CREATE INDEX ix_media_deletions_due_at ON media_deletions (due_at);

CREATE INDEX ix_media_deletions_resource_id ON media_deletions (resource_id);

CREATE TABLE media_dead_letters (
    id CHAR(32) NOT NULL,
    storage_key VARCHAR(1024) NOT NULL,
    save_id TEXT NOT NULL,
    reason VARCHAR(32) NOT NULL,
    created_at DATETIME NOT NULL,
    failed_at DATETIME NOT NULL,
    attempts INTEGER NOT NULL,
    last_error TEXT, content_hash BLOB,
    CONSTRAINT pk_media_dead_letters PRIMARY KEY (id)
);

CREATE INDEX ix_media_dead_letters_failed_at ON media_dead_letters (failed_at);

CREATE TABLE media_scans (
    name VARCHAR(32) NOT NULL,
    "after" VARCHAR(1024) NOT NULL,
    next_at DATETIME NOT NULL,
    claimed_by CHAR(32),
    lease_until DATETIME,
    CONSTRAINT pk_media_scans PRIMARY KEY (name)
);

CREATE TABLE media_run_deletions (
    folder VARCHAR(1024) NOT NULL,
    saved_until DATETIME NOT NULL,
    "after" VARCHAR(1024) NOT NULL,
    marked BIGINT NOT NULL,
    kept BIGINT NOT NULL,
    newer BIGINT NOT NULL,
    claimed_by CHAR(32),
    lease_until DATETIME,
    CONSTRAINT pk_media_run_deletions PRIMARY KEY (folder)
);

CREATE TABLE media_tags (
    resource_id CHAR(32) NOT NULL,
    tag VARCHAR(64) NOT NULL,
    CONSTRAINT pk_media_tags PRIMARY KEY (resource_id, tag),
    CONSTRAINT fk_media_tags_resource_id FOREIGN KEY(resource_id) REFERENCES media_resources (id) ON DELETE CASCADE
);

CREATE INDEX ix_media_tags_tag ON media_tags (tag, resource_id);

CREATE TABLE media_healing (
    resource_id CHAR(32) NOT NULL,
    due_at DATETIME NOT NULL,
    attempts INTEGER DEFAULT '0' NOT NULL,
    reread BOOLEAN DEFAULT 0 NOT NULL,
    CONSTRAINT pk_media_healing PRIMARY KEY (resource_id)
);

CREATE INDEX ix_media_healing_due_at ON media_healing (due_at);

CREATE TABLE search_images (
    id INTEGER NOT NULL,
    storage_key VARCHAR(1024) NOT NULL,
    saved_ns BIGINT NOT NULL,
    size BIGINT NOT NULL,
    etag TEXT NOT NULL,
    content_type VARCHAR(255) NOT NULL,
    sha256 BLOB,
    save_id TEXT NOT NULL,
    generation TEXT,
    ai_mark VARCHAR(16),
    words TEXT,
    CONSTRAINT pk_search_images PRIMARY KEY (id),
    CONSTRAINT uq_search_images_storage_key UNIQUE (storage_key)
);

CREATE VIRTUAL TABLE search_words USING fts5(prompt, path, model, lora, facets, tokenize = 'ascii');

CREATE INDEX ix_media_resources_source_key ON media_resources (source_key);

CREATE TABLE media_failures (
    id CHAR(32) NOT NULL,
    kind VARCHAR(32) NOT NULL,
    payload JSON NOT NULL,
    created_at DATETIME NOT NULL,
    failed_at DATETIME NOT NULL,
    attempts INTEGER NOT NULL,
    last_error TEXT,
    CONSTRAINT pk_media_failures PRIMARY KEY (id)
);

CREATE TRIGGER media_dead_letters_insert AFTER INSERT ON media_dead_letters FOR EACH ROW BEGIN
    INSERT INTO media_failures (id, kind, payload, created_at, failed_at, attempts, last_error)
    SELECT NEW.id, 'deletion', json_object('storage_key', NEW.storage_key, 'save_id',
           NEW.save_id, 'reason', NEW.reason, 'content_hash', nullif(lower(hex(NEW.content_hash)), '')),
           NEW.created_at, NEW.failed_at, NEW.attempts, NEW.last_error
     WHERE NOT EXISTS (SELECT 1 FROM media_failures known WHERE known.id = NEW.id)
; END;

CREATE TRIGGER media_dead_letters_delete AFTER DELETE ON media_dead_letters FOR EACH ROW BEGIN DELETE FROM media_failures WHERE id = OLD.id; END;

CREATE TRIGGER media_failures_insert AFTER INSERT ON media_failures FOR EACH ROW BEGIN
    INSERT INTO media_dead_letters
        (id, storage_key, save_id, reason, created_at, failed_at, attempts, last_error)
    SELECT NEW.id, json_extract(NEW.payload, '$.storage_key'), json_extract(NEW.payload, '$.save_id'), json_extract(NEW.payload, '$.reason'), NEW.created_at, NEW.failed_at, NEW.attempts, NEW.last_error
    WHERE NEW.kind = 'deletion'
        AND NOT EXISTS (SELECT 1 FROM media_dead_letters known WHERE known.id = NEW.id)
; END;

CREATE TRIGGER media_failures_delete AFTER DELETE ON media_failures FOR EACH ROW BEGIN DELETE FROM media_dead_letters WHERE id = OLD.id; END;

INSERT INTO alembic_version VALUES ('0011');
