#!/bin/bash
# A host for workers: an sshd that lets in the coordinator of this start alone, and ends when that says that it is done.
set -euo pipefail
umask 077
mkdir -p ~/.ssh
cp /hosts/authorized_keys ~/.ssh/authorized_keys
. /usr/local/lib/lockstep/sshd.sh
/usr/sbin/sshd -D -e -f ~/sshd/config &
sshd=$!
echo "$sshd" > ~/sshd/pid
trap 'kill "$sshd"' TERM INT
address=$(hostname -i)
echo "[$address]:2222 $(cut -d' ' -f1,2 ~/sshd/host.pub)" > "/hosts/known/$address.new"
mv "/hosts/known/$address.new" "/hosts/known/$address"
wait "$sshd" || true  # by a signal: the coordinator's, or docker's
