//! The tables that understudy keeps beside the users' in `state.db`: what every board has
//! alike, and what this file alone knows of itself.

/// Ours, made in this order on every board before the first entry.
pub(super) const TABLES: &str = "
    CREATE TABLE _understudy_applied(id INTEGER PRIMARY KEY, head BLOB NOT NULL);
    CREATE TABLE _understudy_member(
        id INTEGER PRIMARY KEY, name TEXT NOT NULL, key BLOB NOT NULL,
        addresses TEXT NOT NULL, voter INTEGER NOT NULL);
    CREATE TABLE _understudy_token(
        id INTEGER PRIMARY KEY, secret BLOB, lifetime_ms INTEGER, uses INTEGER);
    CREATE TABLE _understudy_key(id INTEGER PRIMARY KEY, ring BLOB NOT NULL);
    CREATE TABLE _understudy_setting(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE _understudy_scrub(
        id INTEGER PRIMARY KEY, time INTEGER NOT NULL, boards INTEGER NOT NULL, name TEXT NOT NULL,
        low BLOB NOT NULL, high BLOB NOT NULL, every INTEGER NOT NULL, source INTEGER);
    CREATE TABLE _understudy_digest(
        scrub INTEGER, board INTEGER, place INTEGER, entry INTEGER NOT NULL, name TEXT NOT NULL,
        start BLOB NOT NULL, rows INTEGER, digest INTEGER, problem TEXT NOT NULL,
        PRIMARY KEY(scrub, board, place)) WITHOUT ROWID;
    CREATE TABLE _understudy_ledger(
        board INTEGER PRIMARY KEY, next INTEGER NOT NULL, done BLOB, given_up INTEGER NOT NULL);
    CREATE TABLE _understudy_start(
        board INTEGER PRIMARY KEY, boot INTEGER NOT NULL, nonce INTEGER NOT NULL);
    CREATE TABLE _understudy_reading_id(
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, time INTEGER NOT NULL);
    CREATE TABLE _understudy_clock(
        board INTEGER, boot INTEGER, began_us INTEGER NOT NULL,
        PRIMARY KEY(board, boot)) WITHOUT ROWID;
    CREATE TABLE _understudy_retention(
        pattern TEXT PRIMARY KEY, keep_s INTEGER, rollup TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE _understudy_tending(
        id INTEGER PRIMARY KEY, wall_us INTEGER, board INTEGER, boot INTEGER, boot_ms INTEGER,
        words TEXT);
    CREATE TABLE _understudy_tended(
        sensor INTEGER, width INTEGER, until INTEGER NOT NULL,
        PRIMARY KEY(sensor, width)) WITHOUT ROWID;
    CREATE TABLE _understudy_late(
        sensor INTEGER, hour INTEGER, PRIMARY KEY(sensor, hour)) WITHOUT ROWID;
    CREATE TABLE _understudy_duty(
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, token INTEGER NOT NULL, board INTEGER,
        boot INTEGER, nonce INTEGER, lease_ms INTEGER NOT NULL, candidates TEXT NOT NULL,
        paused INTEGER NOT NULL, wanted INTEGER, rules TEXT NOT NULL DEFAULT '');
    CREATE TABLE _understudy_checkpoint(duty INTEGER PRIMARY KEY, data BLOB NOT NULL);
    CREATE TABLE _understudy_history(
        id INTEGER PRIMARY KEY, time INTEGER NOT NULL, seen_by INTEGER NOT NULL, board INTEGER,
        kind TEXT NOT NULL, duty TEXT, token INTEGER, reason TEXT NOT NULL);";
