#!/bin/sh
# Runs once, when the data directory is made: the role and the database of the engines. The role owns its database and
# nothing else, so that `rushgate migrate` can make the tables.
set -eu
psql --no-psqlrc --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
    --set password="$LEDGER_PASSWORD" <<'END'
CREATE ROLE rushgate LOGIN PASSWORD :'password' NOSUPERUSER NOCREATEDB NOCREATEROLE;
CREATE DATABASE rushgate OWNER rushgate ENCODING 'UTF8' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C';
REVOKE ALL ON DATABASE rushgate FROM PUBLIC;
END
