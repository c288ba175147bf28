# shellcheck shell=bash
# Sourced after env.sh: the passwords of `make run`, random, made once and kept in .run/secrets.

if [ ! -s "$RUN_DIR/secrets" ]; then
    (
        umask 077
        for name in ADMIN_PASSWORD AUTH_PASSWORD EXEC_PASSWORD IDP_CLIENT_SECRET; do
            echo "$name=$(openssl rand -hex 24)"
        done >"$RUN_DIR/secrets.new"
        mv "$RUN_DIR/secrets.new" "$RUN_DIR/secrets"
    )
fi
# shellcheck source=/dev/null
. "$RUN_DIR/secrets"
