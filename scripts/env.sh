# shellcheck shell=bash
# Sourced by every script: where things are, and as whom PostgreSQL runs.
#
# Sets ROOT, PG_MAJOR, PG_USER, PG_TREE, PGBIN, PG_CONFIG, PGRX_HOME, RUN_DIR and PATH.
# Reads PG_MAJOR when the caller names one of 15 to 18.
# shellcheck disable=SC2034 # what is set here is used where it is sourced

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

say() { printf '%s\n' "$*"; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# The line of some output that says most about why a program gave up, without time and process.
reason_in() {
    local line
    line=$(grep -m1 -E 'PANIC:|FATAL:' <<<"$1" || grep -m1 -E 'ERROR:|error:' <<<"$1" ||
        grep -E -i 'error|cannot|must|not set' <<<"$1" | tail -n1 || true)
    sed -E 's/^.*(PANIC|FATAL|ERROR|error): +//' <<<"${line:-$(tail -n1 <<<"$1")}"
}

# The versions the extension supports, the one preferred first.
PG_MAJORS="15 16 17 18"

find_pg_major() {
    local major
    for major in $PG_MAJORS; do
        [ -x "/usr/lib/postgresql/$major/bin/postgres" ] &&
            [ -d "/usr/include/postgresql/$major/server" ] && echo "$major" && return
    done
    for major in $PG_MAJORS; do
        [ -x "/usr/lib/postgresql/$major/bin/postgres" ] && echo "$major" && return
    done
    for major in $PG_MAJORS; do
        apt-cache show "postgresql-server-dev-$major" >/dev/null 2>&1 && echo "$major" && return
    done
    echo 15
}

PG_MAJOR=${PG_MAJOR:-$(find_pg_major)}
case " $PG_MAJORS " in
*" $PG_MAJOR "*) ;;
*) die "PG_MAJOR=$PG_MAJOR is not supported; use one of: $PG_MAJORS" ;;
esac

# PostgreSQL refuses to run as root. AS_PG_USER is what to put before its commands.
if [ "$(id -u)" -eq 0 ]; then
    PG_USER=postgres
    AS_PG_USER=(setpriv "--reuid=$PG_USER" "--regid=$PG_USER" --init-groups --reset-env)
else
    PG_USER=$(id -un)
    AS_PG_USER=(env)
fi

# Runs a command as the user PostgreSQL runs as, from a directory that user can enter.
as_pg_user() { (cd / && exec "${AS_PG_USER[@]}" "$@"); }

# Makes PATH a directory that PG_USER can reach. A checkout in a place PG_USER cannot enter (root's
# home) gets a link instead, to a directory under PG_USER's home that is named after the checkout.
pg_directory() {
    local path=$1 home target
    if [ -d "$path" ]; then return; fi
    mkdir -p "$(dirname "$path")"
    if as_pg_user test -x "$(dirname "$path")"; then
        mkdir -p "$path"
        return
    fi
    home=$(getent passwd "$PG_USER" | cut -d: -f6)
    target="$home/mcp-sessions/$(printf %s "$path" | cksum | cut -d' ' -f1)"
    as_pg_user mkdir -p "$home/mcp-sessions" || die "user $PG_USER can write neither $path nor $home"
    mkdir -p "$target"
    ln -sfn "$target" "$path"
}

# Removes what pg_directory made.
remove_pg_directory() {
    local path=$1
    if [ -L "$path" ]; then rm -rf "$(readlink "$path")"; fi
    rm -rf "$path"
}

# A copy of PostgreSQL's own directory tree, into which the extension is installed; see make-pg-tree.
PG_TREE=$(readlink -m "$ROOT/.pg/$PG_MAJOR")
PGBIN="$PG_TREE/lib/postgresql/$PG_MAJOR/bin"
PG_CONFIG="$PGBIN/pg_config"

# cargo-pgrx keeps its configuration here, so that the one in the user's home stays as it is.
export PGRX_HOME="$ROOT/.pg/pgrx" SYSTEM_PGRX_HOME="$ROOT/.pg/pgrx-system"
CARGO_PGRX_VERSION=$(sed -n 's/^pgrx = "=\(.*\)"$/\1/p' "$ROOT/Cargo.toml")
# First what these scripts install where the system has none that fits, then whatever else there is.
export PATH="$ROOT/.pg/cargo/bin:$ROOT/.pg/node/bin:$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"

# Where cargo puts what it builds.
TARGET_DIR=${CARGO_TARGET_DIR:-$ROOT/target}
# The data, logs and settings of `make run`.
RUN_DIR=${MCP_RUN_DIR:-$ROOT/.run}
export PG_MAJOR
