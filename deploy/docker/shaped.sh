#!/bin/bash
# A worker's container with a link of a rate; root for as long as that takes.
set -euo pipefail
device=$(ip -o route show to default | awk '{ print $5; exit }')
tc qdisc replace dev "$device" root handle 1: tbf rate "$LOCKSTEP_RATE" burst 256kb latency 50ms
if [[ -n $LOCKSTEP_DELAY ]] && ! tc qdisc add dev "$device" parent 1:1 handle 10: netem delay "$LOCKSTEP_DELAY" limit 100000; then
  echo "worker: this machine's kernel has no netem, so links cannot be given a delay; leave LOCKSTEP_DELAY out" >&2
  exit 1
fi
export HOME=/home/lockstep
exec setpriv --reuid=lockstep --regid=lockstep --init-groups --inh-caps=-all --bounding-set=-all /usr/local/lib/lockstep/worker.sh
