# shellcheck shell=bash
# Sourced after env.sh: builds for a PostgreSQL of this system in place of the private tree.

# Sets PG_CONFIG and PG_MAJOR, and a PGRX_HOME that knows them. Usage: use_system_pg_config [PG_CONFIG]
use_system_pg_config() {
    PG_CONFIG=${1:-/usr/lib/postgresql/$PG_MAJOR/bin/pg_config}
    [ -x "$PG_CONFIG" ] || PG_CONFIG=$(command -v pg_config) || die "no pg_config: name one with PG_CONFIG=/path/to/pg_config"
    PG_MAJOR=$("$PG_CONFIG" --version | sed 's/^PostgreSQL \([0-9]*\).*/\1/')
    # shellcheck disable=SC2153 # set by env.sh
    case " $PG_MAJORS " in
    *" $PG_MAJOR "*) ;;
    *) die "$PG_CONFIG is of PostgreSQL $PG_MAJOR; supported are: $PG_MAJORS" ;;
    esac
    [ -d "$("$PG_CONFIG" --includedir-server)" ] ||
        die "the headers of PostgreSQL $PG_MAJOR are missing (package postgresql-server-dev-$PG_MAJOR)"
    export PG_MAJOR PG_CONFIG PGRX_HOME=$SYSTEM_PGRX_HOME
    "$ROOT/scripts/install-cargo-pgrx" "$PG_CONFIG"
}
