#!/usr/bin/env python3
"""sample_reports.py OUT_DIR: writes reports as `lockstep report --json` prints them, made by hand, the same every time:
large.json, single.json, empty.json, odd.json."""
import json
import math
import pathlib
import random
import sys

PARTS = ["data_wait", "forward", "backward", "comm_exposed", "optimizer", "other"]
LAYERS = [("conv1", 0.10, 2.1e9), ("conv2", 0.22, 9.4e9), ("conv3", 0.24, 10.8e9), ("conv4", 0.20, 8.9e9),
          ("fc1", 0.16, 1.3e9), ("fc2", 0.08, 0.2e9)]  # name, share of a pass, flops
STARTED = 1795491540.0


def run(**fields):
    return {"name": "", "folder": "", "state": "ended", "model": "cnn", "algorithm": "shared", "compression": "none", "period": 1,
            "workers": 1, "hosts": ["node-a"], "global_batch_size": 64, "first_step": 0, "last_step": 0, "steps": 0,
            "steps_looked_at": 0, "started": STARTED, "seconds": 0.0, "samples_per_s": 0.0, "launches": 1, "dropped": 0, "left_out": 0,
            "clock_error_s": 0.0, "faults": [], "lockstep": "0.3.0", **fields}


def finding(cause, saving_s, text, **fields):
    return {"cause": cause, "kind": "", "ranks": [], "hosts": [], "persistence": "", "saving_s_per_step": saving_s,
            "saving_low_s": 0.93 * saving_s, "saving_high_s": 1.08 * saving_s, "confidence": 0.97, "text": text, **fields}


def report(about, **fields):
    return {"run": about, "causes": [], "advice": [], "parts": [], "ranks": [], "collectives": [], "links": [], "layers": [],
            "series": no_series(), "arrivals": [], "timelines": [], "metrics": [], "marks": [], **fields}


def no_series():
    return {name: [] for name in ["step", "time", *(f"{part}_s" for part in PARTS), "step_max_s", "loss", "samples_per_s", "waits"]}


def series(steps, bins, means, batch, rng, shape=lambda at: {}):
    """Steps 1 … `steps` in bins; `means` of the parts, times what `shape` says of them at a share of the run, and noise."""
    made, time = no_series(), 0.0
    for i in range(bins):
        first, last, factors = 1 + i * steps // bins, (i + 1) * steps // bins, shape(i / bins)
        values = [mean * factors.get(part, 1.0) * (1 + 0.05 * rng.gauss(0, 1)) for part, mean in zip(PARTS, means)]
        made["step"].append(first)
        made["time"].append(time)
        for part, value in zip(PARTS, values):
            made[f"{part}_s"].append(max(value, 0.0))
        step_s = sum(values)
        made["step_max_s"].append(step_s * 1.012)
        made["loss"].append(0.09 + 2.2 * math.exp(-7 * i / bins) * (1 + 0.04 * rng.gauss(0, 1)))
        made["samples_per_s"].append(batch / step_s)
        time += step_s * (last - first + 1)
    return made, time


def parts(means):
    rows = [{"part": part, "mean_s": mean, "p50_s": 0.94 * mean, "p95_s": 1.9 * mean, "share": mean / sum(means)}
            for part, mean in zip(PARTS, means)]
    step_s = sum(means)
    return rows + [{"part": "step", "mean_s": step_s, "p50_s": 0.97 * step_s, "p95_s": 1.31 * step_s, "share": 1.0}]


def efficiency(**fields):
    return {"load_balance": 0.861, "communication": 0.842, "parallel": 0.725, "scaling": 0.783, "overlap": 0.614, "goodput": 0.991, "algbw": 1.24e9,
            "busbw": 2.17e9, "flops_per_s": 84.2e9, "exposed_share": 0.263, "wait_share": 0.124, **fields}


def rank_row(rank, host, means, wait_s, **fields):
    row = {"rank": rank, "host": host, "step_s": sum(means), **{f"{part}_s": mean for part, mean in zip(PARTS, means)},
           "comm_wait_s": wait_s, "last_share": 0.0, "late_s": 0.0, "input_read_s": 0.0061, "input_decode_s": 0.0032,
           "input_ready": 3.9, "clock_offset_s": 1.7e-5 * rank, "clock_error_s": 2.4e-5, "dropped": 0}
    return {**row, **fields}


def arrivals(ranks, straggler, last_share, steps, rng):
    """In bins that grow; the straggler's first one holds the steps in which it came last."""
    edges = [0.0] + [0.0002 * 1.32 ** i for i in range(22)]
    bins = len(edges) - 1
    made = []
    for rank in range(ranks):
        share = last_share if rank == straggler else (1 - last_share) / max(1, ranks - 1)
        middle = 4 if rank == straggler else 14.5 + 0.4 * (rank % 5)
        weights = [math.exp(-(((i - middle) / 1.8) ** 2)) * (0.8 + 0.4 * rng.random()) for i in range(bins)]
        counts = [int((1 - share) * steps * weight / sum(weights)) for weight in weights]
        counts[0] += int(share * steps)
        made.append({"rank": rank, "edge_s": edges, "count": counts})
    return made


def span(rank, thread, name, start_s, end_s, arrival_s=0.0, seq=-1):
    return {"rank": rank, "thread": thread, "name": name, "start_s": start_s, "end_s": end_s, "arrival_s": arrival_s, "seq": seq}


def layer_spans(rank, layers, direction, start_s, seconds):
    """In a pass from `start_s` on, one after the other."""
    spans, at = [], start_s
    for name, share, _ in layers:
        spans.append(span(rank, "trainer", f"{name} {direction}", at, at + share * seconds))
        at += share * seconds
    return spans


def collective_spans(arrivals_s, transfers_s):
    """`arrivals_s`: of every rank, when it handed over each bucket. A bucket starts when the one before is done, and ends for all at once."""
    spans, free_s = [], 0.0
    for seq, transfer_s in enumerate(transfers_s):
        begins = [max(arrived[seq], free_s) for arrived in arrivals_s]
        free_s = max(begins) + transfer_s
        spans += [span(rank, "communication", f"bucket.{seq}", begin, free_s, arrivals_s[rank][seq], seq)
                  for rank, begin in enumerate(begins)]
    return spans, free_s


def timeline(which, step, ranks, straggler, slow, transfers_s, rng):
    """A step of ranks that compute for about as long, but the straggler, `slow` times as long."""
    means = {"data_wait": 0.0012, "forward": 0.026, "backward": 0.047, "optimizer": 0.004}
    spans, arrivals_s, ready = [], [], []
    for rank in range(ranks):
        pace = (slow if rank == straggler else 1.0) * (1 + 0.03 * rng.random())
        start = 0.0004 * rng.random()
        forward = start + means["data_wait"] * (0.5 + rng.random())
        backward = forward + means["forward"] * pace
        end = backward + means["backward"] * pace
        spans += [span(rank, "trainer", "data_wait", start, forward), span(rank, "trainer", "forward", forward, backward),
                  *layer_spans(rank, LAYERS, "forward", forward, backward - forward),
                  span(rank, "trainer", "backward", backward, end),
                  *layer_spans(rank, LAYERS[::-1], "backward", backward, end - backward),
                  span(rank, "input", "read", forward + 0.001, forward + 0.0071), span(rank, "input", "decode", forward + 0.0071, forward + 0.0103)]
        buckets = len(transfers_s)
        arrivals_s.append([backward + (end - backward) * (seq + 1) / max(1, buckets) for seq in range(buckets)])
        ready.append(end)
    collectives, done = collective_spans(arrivals_s, transfers_s)
    for rank, end in enumerate(ready):
        exposed_end = max(done, end)
        if exposed_end > end:
            spans.append(span(rank, "trainer", "comm_exposed", end, exposed_end))
        spans.append(span(rank, "trainer", "optimizer", exposed_end, exposed_end + means["optimizer"]))
    spans += collectives
    spans.sort(key=lambda s: (s["rank"], s["thread"], s["start_s"], -s["end_s"]))
    return {"which": which, "step": step, "step_s": max(s["end_s"] for s in spans), "spans": spans}


def collective(name, grad_bytes, p50_s, wait_s, **fields):
    return {"name": name, "algorithm": "ring", "samples": 1000, "grad_bytes": grad_bytes, "wire_bytes": 14 * grad_bytes, "p10_s": 0.86 * p50_s,
            "p50_s": p50_s, "p90_s": 1.4 * p50_s, "wait_s": wait_s, "transfer_s": 1.05 * p50_s, "algbw": grad_bytes / p50_s,
            "busbw": 1.75 * grad_bytes / p50_s, "timing": "arrivals", **fields}


def layers(forward_s, backward_s, counted=True):
    return [{"name": name, "forward_s": share * forward_s, "backward_s": share * backward_s, "flops": 3 * flops if counted else 0.0}
            for name, share, flops in LAYERS]


def metric(step, time, split, name, value):
    return {"step": step, "time": time, "split": split, "metric": name, "value": value}


def mark(series_of, at, kind, rule, reason):
    i = min(int(at * len(series_of["step"])), len(series_of["step"]) - 1)
    return {"time": series_of["time"][i], "step": series_of["step"][i], "kind": kind, "rule": rule, "reason": reason}


def evaluations(made, count):
    rows = []
    for k in range(1, count + 1):
        i = k * len(made["step"]) // count - 1
        at = k / count
        where = (made["step"][i], made["time"][i])
        rows += [metric(*where, "validation", "loss", 0.14 + 1.9 * math.exp(-6 * at)),
                 metric(*where, "validation", "accuracy", 0.985 - 0.6 * math.exp(-5 * at))]
    return rows


def large():
    rng = random.Random(1)
    ranks, straggler, steps = 8, 5, 100_000
    hosts = ["node-a", "node-b"]
    means = [0.0012, 0.0281, 0.0524, 0.0310, 0.0041, 0.0008]

    def shape(at):
        factors = {"comm_exposed": 0.82 if at > 0.7 else 1.0}
        if 0.40 < at < 0.44:
            factors["data_wait"] = 14.0
        if at < 0.004:
            factors["forward"] = 2.6
        return factors

    made, seconds = series(steps, 1500, means, 512, rng, shape)
    made["waits"] = [{"rank": rank, "wait_s": [max(0.0, (0.0004 if rank == straggler else 0.0144 + 0.0008 * (rank % 3))
                                                  * (1 + 0.15 * rng.gauss(0, 1)) * (2.4 if 0.55 < i / 1500 < 0.58 else 1.0))
                                              for i in range(1500)]} for rank in range(ranks)]
    rows = []
    for rank in range(ranks):
        slow = rank == straggler
        own = list(means) if not slow else [0.0012, 0.0341, 0.0634, 0.0141, 0.0041, 0.0008]
        rows.append(rank_row(rank, hosts[rank // 4], own, 0.0005 if slow else 0.0150 + 0.0003 * (rank % 3),
                             last_share=0.912 if slow else 0.0126, late_s=0.0162 if slow else -0.0002 * (rank % 3)))
    verdict = finding("straggler-bound", 0.0147, "Rank 5 on node-b holds up every step: its backward pass takes 11.0 ms longer than the median rank's, in 91% of the "
                      "steps it arrives last.", kind="backward", ranks=[5], hosts=["node-b"], persistence="persistent")
    second = finding("communication-bound", 0.0098, "Gradients take 16.4 ms that nothing hides: the link between node-a and node-b carries 1.1 GB/s, and 43 MB "
                     "cross it each step.", kind="bandwidth", confidence=0.03)
    third = finding("input-bound", 0.0009, "Ranks wait 1.2 ms for their batch, most of it between steps 40,000 and 44,000.", confidence=0.0)
    marks = [mark(made, k / 20, "checkpoint", "every_steps", f"5,000 steps since the last one, at step {k * 5000}") for k in range(1, 20)]
    marks += [mark(made, 0.28, "buckets", "bucket_tuning", "tries 8 MiB in place of 25 MiB"),
              mark(made, 0.70, "buckets", "bucket_tuning", "keeps 8 MiB: 5.6 ms less a step (95%: 5.1 … 6.0)"),
              mark(made, 0.42, "warning", "slow_input", "workers waited 14 times as long for data as before"),
              mark(made, 0.9999, "stop", "max_steps", "step 100000 of max_steps 100000 is done")]
    marks.sort(key=lambda m: m["time"])
    advice = [{"setting": "", "value": "", "gain_s_per_step": 0.0147, "gain": 0.142, "text": "Look at node-b's core of rank 5: it runs at 82% of its neighbours' pace. "
               "Move the rank, or leave it out."},
              {"setting": "communication.compression", "value": "bf16", "gain_s_per_step": 0.0072, "gain": 0.065, "text": "Halves what crosses the link."},
              {"setting": "data.workers", "value": "4", "gain_s_per_step": 0.0008, "gain": 0.007, "text": "A second reader a rank keeps batches ready."}]
    about = run(name="cnn-8x-node-a-b", folder="runs/cnn-8x", algorithm="hierarchical", workers=ranks, hosts=hosts, global_batch_size=512, first_step=1,
                last_step=steps, steps=steps, steps_looked_at=20_000, seconds=seconds, samples_per_s=512 * steps / seconds, launches=2,
                clock_error_s=2.4e-5)
    buckets = [0.0052, 0.0066, 0.0061, 0.0058, 0.0068, 0.0021]
    return report(about, verdict=verdict, causes=[verdict, second, third], advice=advice, efficiency=efficiency(), parts=parts(means), ranks=rows,
                  collectives=[*(collective(f"bucket.{k}", 8 << 20, p50_s, 0.0147 * (k + 1) / 6) for k, p50_s in enumerate(buckets)),
                               collective("buffers", 4096, 0.00031, 0.0002, algorithm="direct")],
                  links=[{"from": a, "to": b, "latency_s": 4.1e-5, "latency_error_s": 3e-6, "bandwidth_bytes_per_s": 1.12e9, "bandwidth_error": 2.1e7,
                          "samples": 6000} for a, b in [hosts, hosts[::-1]]],
                  layers=layers(0.0281, 0.0524), series=made, arrivals=arrivals(ranks, straggler, 0.912, 20_000, rng),
                  timelines=[timeline("typical", 41_200, ranks, straggler, 1.22, buckets, rng),
                             timeline("worst", 73_500, ranks, straggler, 2.7, [2.2 * b for b in buckets], rng)],
                  metrics=evaluations(made, 20), marks=marks)


def single():
    rng = random.Random(2)
    means = [0.0009, 0.0214, 0.0371, 0.0, 0.0022, 0.0001]
    made, seconds = series(12, 12, means, 64, rng)
    verdict = finding("compute-bound", 0.0, "Computing takes 94.8% of the step: nothing else holds it up.", saving_low_s=0.0, saving_high_s=0.0, confidence=1.0)
    about = run(name="first-try", folder="runs/first-try", algorithm="local", first_step=1, last_step=12, steps=12, steps_looked_at=12, seconds=seconds,
                samples_per_s=64 * 12 / seconds)
    return report(about, verdict=verdict, causes=[verdict],
                  efficiency=efficiency(load_balance=1.0, communication=1.0, parallel=1.0, overlap=None, goodput=1.0, algbw=0.0, busbw=0.0,
                                        exposed_share=0.0, wait_share=0.0),
                  parts=parts(means), ranks=[rank_row(0, "node-a", means, 0.0)], layers=layers(0.0214, 0.0371), series=made,
                  timelines=[timeline("typical", 7, 1, -1, 1.0, [], rng)])


def empty():
    return report(run(name="just-started", folder="runs/just-started", state="live", workers=2, hosts=["node-a"], first_step=1, last_step=0))


HOSTILE = '<!--<script></script><b>"node" & \'co\'</b><img src=x onerror="window.hacked=1">'


def odd():
    rng = random.Random(4)
    ranks, straggler, bins, steps = 64, 37, 600, 9_000
    hosts = [HOSTILE, *(f"node-{k}" for k in range(1, 8))]
    means = [0.0003, 0.21, 0.44, 0.92, 0.031, 0.004]

    def shape(at):
        return {"forward": 40.0} if at < 0.002 else {}

    made, seconds = series(steps, bins, means, 4096, rng, shape)
    made["loss"] = [None if i % 7 == 3 or i > 450 else loss for i, loss in enumerate(made["loss"])]
    for i in range(100, 110):
        made["comm_exposed_s"][i] = made["samples_per_s"][i] = None
    made["waits"] = [{"rank": rank, "wait_s": [None if 200 <= i < 230 else (0.004 if rank == straggler else 0.3 * rng.random()) for i in range(bins)]}
                     for rank in range(ranks)]
    rows = [rank_row(rank, hosts[rank // 8], means, 0.004 if rank == straggler else 0.15, last_share=0.5 if rank == straggler else 0.008,
                     late_s=0.15 if rank == straggler else -0.01, input_read_s=None, dropped=rank % 3) for rank in range(ranks)]
    verdict = finding("straggler-bound", 0.151, f"Rank 37 on {HOSTILE} comes last.", kind="forward", ranks=[straggler, straggler + 1], hosts=[HOSTILE],
                      persistence="rotating", saving_low_s=None, saving_high_s=None, confidence=0.55)
    other = finding("communication-bound", 0.149, "Latency.", kind="latency", confidence=0.45)
    name = "a-very-long-name-" + "of-a-sweep-over-many-settings-" * 6 + "end"
    about = run(name=name, folder=f"runs/{name}", state="resumable", model='<img src=x onerror="window.hacked=1">', algorithm="ring", compression="powersgd",
                period=16, workers=ranks, hosts=hosts, global_batch_size=4096, first_step=1, last_step=steps, steps=steps - 40, steps_looked_at=900,
                seconds=seconds, samples_per_s=4096 * steps / seconds, launches=3, dropped=64, left_out=17, clock_error_s=0.0021,
                faults=["delay rank=37 part=forward seconds=0.15", f"pause host={HOSTILE}"])
    metrics = [metric(1 + 900 * k, made["time"][60 * k], "validation", "perplexity", None if k == 2 else 140.0 / (k + 1)) for k in range(10)]
    marks = [mark(made, 0.2, "checkpoint", "request", HOSTILE), mark(made, 0.5, "rebalance", "<i>unknown</i>", ""), mark(made, 0.5001, "warning", "", HOSTILE)]
    return report(about, verdict=verdict, causes=[verdict, other],
                  advice=[{"setting": "communication.period", "value": HOSTILE, "gain_s_per_step": None, "gain": None, "text": "Meet less often."}],
                  efficiency=efficiency(overlap=None, flops_per_s=0.0, goodput=0.9956), parts=parts(means), ranks=rows,
                  collectives=[collective(HOSTILE, 25 << 20, 0.61, 0.15, p90_s=None, timing="both")],
                  links=[{"from": hosts[a], "to": hosts[(a + 1) % 8], "latency_s": 0.00012, "latency_error_s": None, "bandwidth_bytes_per_s": 1.1e8,
                          "bandwidth_error": 2.0e6, "samples": 70} for a in range(8)],
                  layers=layers(0.21, 0.44, counted=False), series=made, arrivals=arrivals(ranks, straggler, 0.5, 900, rng),
                  timelines=[timeline("worst", 4_711, ranks, straggler, 2.0, [0.01] * 12, rng)], metrics=metrics, marks=marks)


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for make in (large, single, empty, odd):
        (folder / f"{make.__name__}.json").write_text(json.dumps(make(), ensure_ascii=False, indent=None) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
