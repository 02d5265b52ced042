#!/bin/bash
# Trains on the hosts of the service `worker`, or goes on with the run that is there; then lets the workers go. With arguments: those of
# `lockstep run`, in place of the config's.
set -uo pipefail
umask 077
mkdir -p ~/.ssh
cat > ~/.ssh/config <<END
Host *
  Port 2222
  IdentityFile /keys/id
  UserKnownHostsFile ~/.ssh/known
END
# Those that are there now: one that was stopped has left its key behind.
mapfile -t hosts < <(getent ahostsv4 worker | awk '{ print $1 }' | sort -u -V)
[[ ${#hosts[@]} -gt 0 ]] || { echo "coordinator: the service worker has no containers; start some with --scale worker=4" >&2; exit 2; }
(cd /hosts/known && cat "${hosts[@]}") > ~/.ssh/known || exit 2
list=$(printf '%s:1,' "${hosts[@]}")
run=/runs/$LOCKSTEP_RUN
if [[ $# -gt 0 ]]; then
  words=("$@")
elif [[ -e $run/journal.db ]]; then
  words=(--resume "$run")
else
  words=("$LOCKSTEP_CONFIG" --out "$run" ${LOCKSTEP_THREADS:+--set "threads=$LOCKSTEP_THREADS"} ${LOCKSTEP_DATA:+--set "data.path=$LOCKSTEP_DATA"})
fi
# shellcheck disable=SC2086
lockstep run --hosts "${list%,}" "${words[@]}" ${LOCKSTEP_OPTIONS:-} &
child=$!
trap 'kill -TERM "$child"' TERM INT
while kill -0 "$child" 2>/dev/null; do wait "$child"; done
wait "$child"
code=$?
for host in "${hosts[@]}"; do
  # shellcheck disable=SC2016
  ssh -o BatchMode=yes -o ConnectTimeout=2 "$host" 'kill "$(cat ~/sshd/pid)"' </dev/null >/dev/null 2>&1 &
done
wait
[[ $code == 0 || $code == 2 ]] || echo "coordinator: the run ended with exit code $code; the same docker-compose command goes on with it"
exit "$code"
