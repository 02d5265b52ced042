#!/bin/bash
# fake_worker.sh: stands for lockstep-worker in tests that are about lockstep itself. FAKE_WORKER: what it finds wrong.
if [[ ${FAKE_WORKER:-} ]]; then echo "lockstep-worker: $FAKE_WORKER" >&2; exit 2; fi
case $1 in
  --probe) echo '{"torch":"1.13.0","cuda":false,"cuda_devices":0,"blas":"openblas"}' ;;
  --needs) cat > /dev/null; echo '{"parameters":7850,"process_bytes":60000000,"activation_bytes":100000,"input_bytes":50000,"address_bytes":2000000000}' ;;
  --describe) cat > /dev/null; echo '{"parameters":7850,"grad_bytes":31400,"buffers":0}' ;;
  *) printf '%s\n' "$@" ;;
esac
