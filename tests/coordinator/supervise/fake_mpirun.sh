#!/bin/bash
# fake_mpirun.sh MODE: stands for mpirun in tests of the supervisor. Its workers are in process groups of their own.
mode=$1
case $mode in
  exit-*) exit "${mode#exit-}" ;;
  lost)
    echo "mpirun noticed that process rank 1 with PID 4242 on node here exited on signal 9 (Killed)."
    exit 137 ;;
esac
# Before it has workers: a signal may come between the two.
case $mode in
  abandon) trap 'exit 143' TERM ;;
  *) trap 'kill $(jobs -p); exit 143' TERM ;;
esac
setsid sleep 300 &
setsid sleep 300 &
if [[ $mode == stubborn ]]; then
  trap '' TERM  # of its own: the workers have what TERM does by default
  echo up
  while true; do sleep 300 & wait $!; done
fi
echo up
wait
