#!/usr/bin/python3
"""All-reduces of float32 through torch.distributed over Gloo, timed as `lockstep bench allreduce` times its own: calls back to
back, the slowest rank's time, sums checked. Rank 0 prints one JSON line.

  tests/bench/gloo_allreduce.py --ranks 2 --bytes 25000000,80000000 --seconds 2

Needs Debian's python3-torch. Across hosts start each rank by hand with --rank R --ranks N --master ADDRESS:PORT, and the name of the
interface in GLOO_SOCKET_IFNAME.
"""
import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time

LARGEST = 16  # of the values that are summed: small whole numbers, so that sums are exact
FEWEST_BATCHES = 5
LONGEST_BATCH = 0.5  # s


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_ranks(a):
    master = a.master or f"127.0.0.1:{free_port()}"
    command = [sys.executable, __file__, "--ranks", str(a.ranks), "--bytes", a.bytes, "--seconds", str(a.seconds), "--master", master]
    ranks = [subprocess.Popen([*command, "--rank", str(rank)], env={**os.environ, "OMP_NUM_THREADS": "1"}) for rank in range(a.ranks)]
    return max(abs(rank.wait()) for rank in ranks)


def most_calls(world):
    """That may follow each other, each summing what the one before left, with sums still exact in float32."""
    calls, largest = 0, LARGEST * world
    while largest * world < 1 << 24:
        calls, largest = calls + 1, largest * world
    return calls


def measure(a, size, torch, dist):
    count, world = size // 4, a.ranks
    index = torch.arange(count)
    mine = (index + a.rank) % LARGEST
    total = sum((index + rank) % LARGEST for rank in range(world))
    data, times, batches = torch.empty(count), [], []
    calls, warm = 1, False  # the first batch warms up and is not counted
    while len(batches) < FEWEST_BATCHES or sum(times) < a.seconds:
        data.copy_(mine)
        dist.barrier()
        batch = []
        for _ in range(1 + calls):  # the first one finds the ranks apart
            start = time.perf_counter()
            dist.all_reduce(data)
            batch.append(time.perf_counter() - start)
        wrong = (data != (total * world ** calls).to(torch.float32)).nonzero()
        if len(wrong):
            sys.exit(f"gloo_allreduce: rank {a.rank}, {size} bytes: element {wrong[0].item()} is {data[wrong[0]].item()}")
        slowest = torch.tensor([*batch[1:], sum(batch[1:])], dtype=torch.float64)
        dist.all_reduce(slowest, op=dist.ReduceOp.MAX)
        *of_calls, whole = slowest.tolist()
        if warm:
            times += of_calls
            batches.append(whole / calls)
        warm = True
        calls = min(most_calls(world), 1 + int(LONGEST_BATCH * calls / whole))
    times.sort()
    at = lambda fraction: times[round(fraction * (len(times) - 1))]
    return {"algorithm": "gloo", "bytes": size, "calls": len(times), "call_s": statistics.median(batches),
            "p10_s": at(0.1), "p50_s": at(0.5), "p90_s": at(0.9)}


def run_rank(a):
    import torch
    import torch.distributed as dist
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://{a.master}", rank=a.rank, world_size=a.ranks)
    results = [measure(a, int(size), torch, dist) for size in a.bytes.split(",")]
    if a.rank == 0:
        print(json.dumps({"world": a.ranks, "torch": torch.__version__, "results": results}), flush=True)
    dist.barrier()
    os._exit(0)  # what Gloo leaves to static destructors now and then ends in std::terminate


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rank", type=int)
    parser.add_argument("--master", default="")
    parser.add_argument("--bytes", default="25000000,80000000")
    parser.add_argument("--seconds", type=float, default=0.5, help="of calls, at least, for each size")
    a = parser.parse_args()
    sys.exit(start_ranks(a) if a.rank is None else run_rank(a))


if __name__ == "__main__":
    main()
