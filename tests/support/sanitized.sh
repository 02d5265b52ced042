#!/bin/bash
# sanitized.sh PRESET: builds the rooms without Torch under a sanitizer and runs their tests.
set -euo pipefail
cd "$(dirname "$0")/../.."
deploy/build.sh "$1"
export TSAN_OPTIONS="halt_on_error=1 suppressions=$PWD/tests/support/tsan.supp" ASAN_OPTIONS=detect_stack_use_after_return=1
exec ctest --preset "$1" -j2 </dev/null
