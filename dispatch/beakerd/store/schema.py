"""The tables.

Owns their names and invariants. Times are nanoseconds since the epoch; statuses, codes and priorities are the
numbers of the API's enums. ``name_key`` is unique where a name is: ``<scope id>/<name>``, NULL without a name
(see :class:`dispatch.beakerd.config.NameScope`). A token is kept as its SHA-256 only.
"""

from __future__ import annotations

VERSION = 1

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE organizations (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, created INTEGER NOT NULL,
    description TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;

-- origin: 'config' for those that the configuration names, 'gone' for those that it named once, 'api'.
CREATE TABLE users (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, created INTEGER NOT NULL,
    origin TEXT NOT NULL DEFAULT 'api',
    display_name TEXT NOT NULL DEFAULT '', email TEXT NOT NULL DEFAULT '', pronouns TEXT NOT NULL DEFAULT '',
    role INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE members (
    organization_id TEXT NOT NULL REFERENCES organizations, user_id TEXT NOT NULL REFERENCES users,
    PRIMARY KEY (organization_id, user_id)
) WITHOUT ROWID;

-- kind: user, job (ends with its job), storage and registry (for one subject: a dataset, an image).
CREATE TABLE tokens (
    hash BLOB PRIMARY KEY, kind TEXT NOT NULL, user_id TEXT NOT NULL REFERENCES users,
    workspace_id TEXT, job_id TEXT, subject TEXT, created INTEGER NOT NULL, expires INTEGER
) WITHOUT ROWID;
CREATE INDEX tokens_of_job ON tokens (job_id) WHERE job_id IS NOT NULL;
CREATE INDEX tokens_of_subject ON tokens (subject) WHERE subject IS NOT NULL;

CREATE TABLE budgets (
    id TEXT PRIMARY KEY, organization_id TEXT NOT NULL REFERENCES organizations, name TEXT NOT NULL,
    created INTEGER NOT NULL, UNIQUE (organization_id, name)
) WITHOUT ROWID;

CREATE TABLE workspaces (
    id TEXT PRIMARY KEY, organization_id TEXT NOT NULL REFERENCES organizations,
    author_id TEXT NOT NULL REFERENCES users, name TEXT NOT NULL, description TEXT NOT NULL DEFAULT '',
    budget_id TEXT, archived INTEGER NOT NULL DEFAULT 0, maximum_priority INTEGER NOT NULL DEFAULT 5,
    declared INTEGER NOT NULL DEFAULT 0, created INTEGER NOT NULL, modified INTEGER NOT NULL,
    UNIQUE (organization_id, name)
) WITHOUT ROWID;

-- aliases and tags are JSON lists; declared_…: those that the configuration gave. What it no longer names is
-- retired, not removed.
CREATE TABLE clusters (
    id TEXT PRIMARY KEY, organization_id TEXT NOT NULL REFERENCES organizations, name TEXT NOT NULL,
    created INTEGER NOT NULL, aliases TEXT NOT NULL DEFAULT '[]', tags TEXT NOT NULL DEFAULT '[]',
    declared_aliases TEXT NOT NULL DEFAULT '[]', declared_tags TEXT NOT NULL DEFAULT '[]',
    max_task_timeout INTEGER, retired INTEGER NOT NULL DEFAULT 0, UNIQUE (organization_id, name)
) WITHOUT ROWID;

-- cpus in thousandths, memory in bytes. lost: a fault took the node away.
CREATE TABLE nodes (
    id TEXT PRIMARY KEY, cluster_id TEXT NOT NULL REFERENCES clusters, hostname TEXT NOT NULL,
    created INTEGER NOT NULL, cpus INTEGER NOT NULL, memory INTEGER NOT NULL, gpus INTEGER NOT NULL,
    gpu_type INTEGER, slots INTEGER, simulated TEXT NOT NULL DEFAULT '', cordoned INTEGER,
    cordon_reason TEXT NOT NULL DEFAULT '', cordon_agent TEXT NOT NULL DEFAULT '', lost INTEGER,
    retired INTEGER NOT NULL DEFAULT 0, UNIQUE (cluster_id, hostname)
) WITHOUT ROWID;

-- source_job_id: set for results.
CREATE TABLE datasets (
    id TEXT PRIMARY KEY, name TEXT NOT NULL DEFAULT '', name_key TEXT UNIQUE,
    author_id TEXT NOT NULL REFERENCES users, workspace_id TEXT NOT NULL REFERENCES workspaces,
    budget_id TEXT, description TEXT NOT NULL DEFAULT '', created INTEGER NOT NULL, committed INTEGER,
    source_job_id TEXT
) WITHOUT ROWID;
CREATE INDEX datasets_by_created ON datasets (created);
CREATE INDEX datasets_by_name ON datasets (name, id);
CREATE INDEX datasets_of_workspace ON datasets (workspace_id, created);

CREATE TABLE dataset_files (
    dataset_id TEXT NOT NULL REFERENCES datasets ON DELETE CASCADE, path TEXT NOT NULL,
    size INTEGER NOT NULL, sha256 BLOB NOT NULL, updated INTEGER NOT NULL, PRIMARY KEY (dataset_id, path)
) WITHOUT ROWID;

CREATE TABLE uploads (
    id TEXT PRIMARY KEY, dataset_id TEXT NOT NULL REFERENCES datasets ON DELETE CASCADE,
    created INTEGER NOT NULL, length INTEGER, received INTEGER NOT NULL DEFAULT 0, sha256 BLOB
) WITHOUT ROWID;

-- docker_id: the image ID (the digest of its config). docker_tag: where the registry has it, or, for images
-- that the configuration names, the engine's own reference (source 'engine'). namespace: what stands before
-- the slash of the full name where that is not the author's name.
CREATE TABLE images (
    id TEXT PRIMARY KEY, name TEXT NOT NULL DEFAULT '', name_key TEXT UNIQUE,
    author_id TEXT NOT NULL REFERENCES users, workspace_id TEXT NOT NULL REFERENCES workspaces,
    budget_id TEXT, description TEXT NOT NULL DEFAULT '', created INTEGER NOT NULL, committed INTEGER,
    docker_id TEXT NOT NULL DEFAULT '', docker_tag TEXT NOT NULL DEFAULT '',
    original_tag TEXT NOT NULL DEFAULT '', size INTEGER NOT NULL DEFAULT 0,
    source TEXT NOT NULL DEFAULT 'registry', namespace TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE INDEX images_by_created ON images (created);
CREATE INDEX images_by_name ON images (name, id);

-- What the registry knows of an image's repository; reference is a tag or a digest.
CREATE TABLE manifests (
    image_id TEXT NOT NULL REFERENCES images ON DELETE CASCADE, reference TEXT NOT NULL,
    digest TEXT NOT NULL, media_type TEXT NOT NULL, body BLOB NOT NULL, created INTEGER NOT NULL,
    PRIMARY KEY (image_id, reference)
) WITHOUT ROWID;

-- The blobs of an image's repository. A file in the registry's directory without a row here is garbage.
CREATE TABLE image_blobs (
    image_id TEXT NOT NULL REFERENCES images ON DELETE CASCADE, digest TEXT NOT NULL,
    size INTEGER NOT NULL, PRIMARY KEY (image_id, digest)
) WITHOUT ROWID;
CREATE INDEX blobs_by_digest ON image_blobs (digest);

-- A blob that is being pushed; how much of it is there, its file says. digest: of its first size bytes.
CREATE TABLE pushes (
    id TEXT PRIMARY KEY, image_id TEXT NOT NULL REFERENCES images ON DELETE CASCADE,
    created INTEGER NOT NULL, size INTEGER NOT NULL DEFAULT 0, digest TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;

CREATE TABLE secrets (
    workspace_id TEXT NOT NULL REFERENCES workspaces, name TEXT NOT NULL, value BLOB NOT NULL,
    author_id TEXT NOT NULL REFERENCES users, created INTEGER NOT NULL, updated INTEGER NOT NULL,
    PRIMARY KEY (workspace_id, name)
) WITHOUT ROWID;

-- spec: JSON as it was sent. allowed_retries: for each task.
CREATE TABLE experiments (
    id TEXT PRIMARY KEY, name TEXT NOT NULL DEFAULT '', name_key TEXT UNIQUE,
    author_id TEXT NOT NULL REFERENCES users, workspace_id TEXT NOT NULL REFERENCES workspaces,
    budget_id TEXT, description TEXT NOT NULL DEFAULT '', spec TEXT NOT NULL, created INTEGER NOT NULL,
    canceled INTEGER, canceled_for TEXT, allowed_retries INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX experiments_by_created ON experiments (created);
CREATE INDEX experiments_of_workspace ON experiments (workspace_id, created);

-- spec: JSON of the task alone, ids in place of names (see dispatch.beakerd.spec). status: of its last job.
CREATE TABLE tasks (
    id TEXT PRIMARY KEY, experiment_id TEXT NOT NULL REFERENCES experiments ON DELETE CASCADE,
    position INTEGER NOT NULL, name TEXT NOT NULL DEFAULT '', spec TEXT NOT NULL, status INTEGER NOT NULL,
    created INTEGER NOT NULL, retries INTEGER NOT NULL DEFAULT 0, UNIQUE (experiment_id, position)
) WITHOUT ROWID;
CREATE INDEX experiments_by_name ON experiments (name, id);

-- canceled_code is the wish to stop as well as its outcome; see dispatch.beakerd.store.lifecycle.
-- gpus: JSON list of assigned ids. failure: why it failed without an exit of its own. queued: its place among
-- jobs of its priority. container: intent, written before the container is made.
CREATE TABLE jobs (
    id TEXT PRIMARY KEY, task_id TEXT NOT NULL REFERENCES tasks ON DELETE CASCADE,
    experiment_id TEXT NOT NULL REFERENCES experiments ON DELETE CASCADE,
    workspace_id TEXT NOT NULL, author_id TEXT NOT NULL, name TEXT NOT NULL DEFAULT '',
    status INTEGER NOT NULL, priority INTEGER NOT NULL, queued INTEGER NOT NULL,
    created INTEGER NOT NULL, scheduled INTEGER, ready INTEGER, started INTEGER, exited INTEGER,
    failed INTEGER, canceled INTEGER, finalized INTEGER,
    exit_code INTEGER, message TEXT, canceled_code INTEGER, canceled_for TEXT, waiting_for TEXT,
    node_id TEXT, gpus TEXT NOT NULL DEFAULT '[]', container TEXT,
    result_dataset_id TEXT, metrics TEXT, retry_ancestor_id TEXT
) WITHOUT ROWID;
CREATE INDEX jobs_of_task ON jobs (task_id, created);
CREATE INDEX jobs_of_experiment ON jobs (experiment_id);
CREATE INDEX jobs_live ON jobs (priority, queued) WHERE finalized IS NULL;
CREATE INDEX jobs_by_created ON jobs (created);

CREATE TABLE job_events (
    id TEXT PRIMARY KEY, job_id TEXT NOT NULL REFERENCES jobs ON DELETE CASCADE, status TEXT NOT NULL,
    message TEXT NOT NULL, created INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX events_of_job ON job_events (job_id, created);
"""
