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
deploy/build.sh "$preset" --target "$@"
exec ctest --preset "$preset" -j2 --no-tests=error -R "^($(IFS='|'; echo "$*"))$" </dev/null
