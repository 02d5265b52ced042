#!/bin/bash
# allreduce.sh RANKS LOCKSTEP-WORKER: the benchmark's table and its JSON have every algorithm at every size; wrong flags are named.
set -euo pipefail
ranks=$1 worker=$2
run() { "$(dirname "$0")/../../support/mpirun.sh" "$ranks" "$worker" --bench allreduce --sizes 4,1K,300000 --seconds 0.001 "$@"; }
fail() { echo "$1" >&2; exit 1; }

algorithms=mpi,ring,shared,gather,direct,ring-only
table=$(run --algorithms "$algorithms")
for algorithm in MPI_Allreduce ${algorithms//,/ }; do
  for bytes in 4 1024 300000; do
    grep -qE "^ +$bytes  $algorithm +[0-9.]+ " <<<"$table" || fail "no row of $algorithm at $bytes bytes in:
$table"
  done
done
[[ $(awk '{ print length }' <<<"$table" | sort -n | tail -n 1) -le 100 ]] || fail "a line is longer than 100 columns: $table"

run --json | python3 -c '
import json, sys
bench = json.load(sys.stdin)
assert bench["world"] == int(sys.argv[1]) and bench["hosts"] == 1, bench
assert len(bench["results"]) == 3 * 4, bench
for row in bench["results"]:
    assert 0 < row["p10_s"] <= row["p50_s"] <= row["p90_s"], row
    assert abs(row["algbw"] * row["p50_s"] / row["bytes"] - 1) < 1e-9, row
    world = bench["world"]
    assert abs(row["busbw"] / row["algbw"] - 2 * (world - 1) / world) < 1e-9, row
' "$ranks"

if words=$(run --algorithms rnig 2>&1); then fail "an unknown algorithm was taken"; fi
grep -q "no 'rnig'; choose from mpi, ring, shared, hierarchical" <<<"$words" || fail "an unknown algorithm was not named: $words"
