# shellcheck shell=bash
# Sourced after env.sh: the passwords of `make run`, random, made once and kept in .run/secrets.

# So many random bytes, in hexadecimal.
random() { openssl rand -hex "$1" || die "openssl makes no random bytes: is it installed?"; }

if [ ! -s "$RUN_DIR/secrets" ]; then
    (
        umask 077
        for name in ADMIN_PASSWORD AUTH_PASSWORD EXEC_PASSWORD IDP_CLIENT_SECRET; do
            value=$(random 24)
            echo "$name=$value"
        done >"$RUN_DIR/secrets.new"
        mv "$RUN_DIR/secrets.new" "$RUN_DIR/secrets"
    )
fi
# shellcheck source=/dev/null
. "$RUN_DIR/secrets"
