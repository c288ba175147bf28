#!/bin/sh
# Puts what drives the browser into node_modules, as pinned; does nothing when it is there. The browser is the system's.
set -eu
cd "$(dirname "$0")"

stamp=node_modules/.installed
if [ -f "$stamp" ] && cmp -s package-lock.json "$stamp"; then exit 0; fi
npm ci --no-audit --no-fund --loglevel=error
cp package-lock.json "$stamp"
