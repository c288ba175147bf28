#!/bin/sh
# Puts the identity providers of the end-to-end suite into node_modules, as pinned; does nothing when they are there.
#
# `workos` is the command line of WorkOS, wanted here for the emulator of its API alone. Installed as a
# dependency it brings 300 MB the emulator never loads, so its package is unpacked by itself; the two
# packages the emulator does load stand in package.json.
set -eu
cd "$(dirname "$0")"

workos_version=0.14.0
workos_integrity=sha512-0p+W/7qrP0zYVRt/0y6NH4URkWAl8S2ZEPLDFbYEx1VefPErKXUrY21MkVH42pv5sNlF7XEEm3fGc0jlQCV0zg==

# Removes node_modules, and what is unpacked below with it, where the lock file has changed.
../../scripts/npm-ci .

stamp=node_modules/workos/.installed
wanted="workos@$workos_version $workos_integrity"
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then exit 0; fi

tarball=$(npm pack --silent --pack-destination node_modules "workos@$workos_version")
node -e '
  const [, file, want] = process.argv;
  const got = "sha512-" + require("crypto").createHash("sha512").update(require("fs").readFileSync(file)).digest("base64");
  if (got !== want) { console.error(`${file}: expected ${want}, got ${got}`); process.exit(1); }
' "node_modules/$tarball" "$workos_integrity"
rm -rf node_modules/workos
mkdir -p node_modules/workos
tar -xzf "node_modules/$tarball" -C node_modules/workos --strip-components=1
rm "node_modules/$tarball"
printf '%s' "$wanted" >"$stamp"
