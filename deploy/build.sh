#!/bin/bash
# build.sh PRESET [CMAKE-ARG…] [--target NAME…]: configures and builds a preset of CMakePresets.json, or these targets of it. Quiet; on an
# error, its end.
set -euo pipefail
cd "$(dirname "$0")/.."
preset=$1; shift
configure=()
while [[ $# -gt 0 && $1 != --target ]]; do configure+=("$1"); shift; done
folder=build; [[ $preset == release ]] || folder=build-$preset
mkdir -p "$folder"
log=$folder/build.log
[[ -e $folder/build.ninja ]] || echo "building ($preset): some minutes the first time"
if ! { cmake --preset "$preset" "${configure[@]}" && cmake --build --preset "$preset" "$@"; } >"$log" 2>&1 </dev/null; then
  grep -E -A5 'error|FAILED' "$log" | tail -n 40 >&2 || tail -n 40 "$log" >&2
  echo "${0##*/}: the build failed; all of it is in $log" >&2
  exit 1
fi
