#!/bin/bash
# fake_mpirun.sh: stands for mpirun, in PATH under that name; FAKE_MPIRUN says how it goes.
case $FAKE_MPIRUN in
  exit-*) exit "${FAKE_MPIRUN#exit-}" ;;
esac
sleep 300 & worker=$!
trap 'kill $worker; exit 143' TERM
echo "$PWD $*" > "$FAKE_MPIRUN_STARTED"
wait
