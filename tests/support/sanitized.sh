#!/bin/bash
# sanitized.sh PRESET: builds the rooms without Torch under a sanitizer and runs their tests.
set -euo pipefail
cd "$(dirname "$0")/../.."
deploy/build.sh "$1"
exec ctest --preset "$1" -j2 </dev/null
