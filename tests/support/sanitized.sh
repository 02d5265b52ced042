#!/bin/bash
# sanitized.sh PRESET [TEST…]: builds the rooms without Torch under a sanitizer and runs their tests; or these tests alone, with what
# they need.
set -euo pipefail
cd "$(dirname "$0")/../.."
preset=$1; shift
if [[ $# == 0 ]]; then
  deploy/build.sh "$preset"
  exec ctest --preset "$preset" -j2 </dev/null
fi
log=build-$preset/build.log
mkdir -p "build-$preset"
if ! { cmake --preset "$preset" && cmake --build --preset "$preset" --target "$@"; } >"$log" 2>&1 </dev/null; then
  tail -n 60 "$log"
  exit 1
fi
exec ctest --preset "$preset" -j2 --no-tests=error -R "^($(IFS='|'; echo "$*"))$" </dev/null
