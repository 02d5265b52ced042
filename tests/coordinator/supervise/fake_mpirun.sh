#!/bin/bash
# fake_mpirun.sh MODE: stands for mpirun in tests of the supervisor. Its workers are in process groups of their own.
mode=$1
case $mode in
  exit-*) exit "${mode#exit-}" ;;
  lost)
    echo "mpirun noticed that process rank 1 with PID 4242 on node here exited on signal 9 (Killed)."
    exit 137 ;;
esac
setsid sleep 300 & first=$!
setsid sleep 300 & second=$!
case $mode in
  stubborn) trap '' TERM; echo up; while true; do sleep 300 & wait $!; done ;;
  abandon) trap 'exit 143' TERM ;;
  *) trap 'kill $first $second; exit 143' TERM ;;
esac
echo up
wait
