#!/bin/bash
# missing_rank.sh RANKS PROGRAM: passes if mpirun ends with the code 42 that the ranks which waited leave by.
set -u
code=0
"$(dirname "$0")/../../support/mpirun.sh" "$@" || code=$?
echo "mpirun ended with $code"
[[ $code == 42 ]]
