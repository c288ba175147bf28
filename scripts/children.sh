# shellcheck shell=bash
# Sourced after env.sh: starts processes, waits until they answer, ends them all.
#
# Each child logs to .run/log/NAME.log and is told to end should this shell be killed outright.

declare -a CHILD_NAMES=()
declare -A CHILD_PID=() CHILD_SIGNAL=()

# Usage: start_child NAME SIGNAL [as-pg-user] COMMAND...
# SIGNAL is what ends it in good order.
start_child() {
    local name=$1 signal=$2 as=(setpriv)
    shift 2
    if [ "$1" = as-pg-user ]; then
        shift
        # The death signal is lost when the user changes, so one setpriv does both.
        if [ "$(id -u)" -eq 0 ]; then as=("${AS_PG_USER[@]}"); fi
    fi
    mv -f "$RUN_DIR/log/$name.log" "$RUN_DIR/log/$name.log.old" 2>/dev/null || true
    (
        exec 9>&-
        cd /
        exec "${as[@]}" --pdeathsig "$signal" -- "$@"
    ) >"$RUN_DIR/log/$name.log" 2>&1 </dev/null &
    CHILD_NAMES+=("$name")
    CHILD_PID[$name]=$!
    CHILD_SIGNAL[$name]=$signal
}

# Waits, at most a minute, until the command succeeds. Usage: await_child NAME COMMAND...
await_child() {
    local name=$1 deadline=$((SECONDS + 60))
    shift
    until "$@" >/dev/null 2>&1; do
        kill -0 "${CHILD_PID[$name]}" 2>/dev/null || child_failed "$name" "did not start"
        [ "$SECONDS" -lt "$deadline" ] || child_failed "$name" "does not answer"
        sleep 0.1
    done
}

# Dies with the line of the child's log that says most.
child_failed() {
    local name=$1 what=$2 reason
    reason=$(reason_in "$(cat "$RUN_DIR/log/$name.log")")
    die "$name $what: ${reason:-it said nothing} (see .run/log/$name.log)"
}

# Returns when a child ends that should not have.
watch_children() {
    local name
    wait -n "${CHILD_PID[@]}" || true
    for name in "${CHILD_NAMES[@]}"; do
        kill -0 "${CHILD_PID[$name]}" 2>/dev/null || child_failed "$name" "stopped"
    done
}

# Ends them, the last one started first, and waits for each; one that hangs is killed.
stop_children() {
    local status=$? name pid i tries
    trap - EXIT
    trap '' INT TERM HUP
    for ((i = ${#CHILD_NAMES[@]} - 1; i >= 0; i--)); do
        name=${CHILD_NAMES[i]}
        pid=${CHILD_PID[$name]}
        kill "-${CHILD_SIGNAL[$name]}" "$pid" 2>/dev/null || continue
        for ((tries = 0; tries < 150; tries++)); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    exit "$status"
}
