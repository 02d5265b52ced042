#!/bin/bash
# Whether this worker's sshd answers and the coordinator can know it.
exec 3<>/dev/tcp/127.0.0.1/2222 && IFS= read -r -t 3 line <&3 && [[ $line == SSH-* && -e /hosts/known/$(hostname -i) ]]
