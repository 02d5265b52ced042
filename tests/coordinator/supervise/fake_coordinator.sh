#!/bin/bash
# fake_coordinator.sh MODE NOTES --ready-fd N --lifeline-fd N: stands for `lockstep serve` in tests of the supervisor.
# What it hears on the lifeline is appended to the file NOTES.
mode=$1 notes=$2 ready=$4 lifeline=$6
case $mode in
  mute) exec sleep 300 ;;
  refuse) echo "refused 2 config.yaml:3: bad" >&"$ready"; read -r _ <&"$lifeline"; exit 2 ;;
  leave) exit 7 ;;
  over) echo "ended 0 max_epochs" >&"$ready"; read -r _ <&"$lifeline"; exit 0 ;;
esac
echo "ready 127.0.0.1:4711" >&"$ready"
case $mode in
  end) echo "ended 0 max_epochs" >&"$ready" ;;
  fail) echo "ended 1 loss is not finite at step 12 on rank 1" >&"$ready" ;;
  deaf) trap '' TERM; while true; do sleep 300; done ;;
esac
while read -r word rest <&"$lifeline"; do
  echo "$word $rest" >> "$notes"
  case $word in
    stop) echo "ended 3 stopped by $rest" >&"$ready" ;;
    abort) echo "ended 1 $rest" >&"$ready" ;;
    done) exit 0 ;;
  esac
done
echo "supervisor gone" >> "$notes"
exit 1
