"""The measurements of a long run that nobody trained: rows for run.db, drawn once from a seed, of ranks on two hosts of which one is late.

Every column is given by its name and must be the schema's: a schema that has changed is told, not filled with nothing.
"""
import sqlite3

import numpy as np

SEED = 1
SAMPLE_EVERY, EVALUATE_EVERY, EPOCH_STEPS = 100, 1000, 117  # an epoch: MNIST's 60,000 samples, 512 a step
HOSTS = ["node-a", "node-b"]
MEANS_S = {"data_wait": 0.0012, "forward": 0.0281, "backward": 0.0524, "optimizer": 0.0041, "other": 0.0008}
LATE_FACTOR = 1.3            # of the late rank's computing
SLOW_INPUT = 0.40, 0.44, 12  # from and to which share of the run batches take how many times as long
BUCKETS = [2 << 20, 8 << 20, 8 << 20, 8 << 20, 8 << 20, 12 << 20]
LATENCY_S, BANDWIDTH = 0.0002, 1.1e9  # of the link; a bucket crosses it in two messages, one after the other
GAP_S = 1e-6  # from a message's coming to when the next one is handed over
CLOCK_ERROR_S = 2e-5
INPUT_S = {"read": 0.0061, "decode": 0.0032}
# The product's cnn: layer, share of a pass, operations of a forward pass of 32 samples.
LAYERS = [("0 Unflatten", 0.001, 0), ("1 Conv2d", 0.06, 24.9e6), ("2 ReLU", 0.07, 0), ("3 Conv2d", 0.52, 1359e6), ("4 ReLU", 0.04, 0),
          ("5 MaxPool2d", 0.09, 0), ("6 Flatten", 0.001, 0), ("7 Linear", 0.19, 151e6), ("8 ReLU", 0.01, 0), ("9 Linear", 0.01, 0.16e6)]
BLOCK = 4096  # steps that are made rows at a time
MARKS = {"incarnation": 1, "survived": 1}


def insert(db, table, shape, **columns):
    """A row for each element of `shape`, its first axis first; columns are as they broadcast to it."""
    names = [row[1] for row in db.execute(f"pragma table_info({table})")]
    if set(names) != set(columns):
        raise ValueError(f"run.db's {table} has other columns: {sorted(set(names) ^ set(columns))}")
    whole = [np.broadcast_to(np.asarray(columns[name]), shape) for name in names]
    sql = f"insert into {table} values ({', '.join('?' * len(names))})"
    for begin in range(0, shape[0], BLOCK):
        db.executemany(sql, zip(*(column[begin:begin + BLOCK].ravel().tolist() for column in whole)))


class Run:
    """Times of day and durations of every step and rank: arrays of (steps, ranks)."""

    def __init__(self, steps, ranks, batch, began):
        self.rng = np.random.default_rng(SEED)
        self.steps, self.ranks, self.batch, self.late = steps, ranks, batch, 5 % ranks
        self.step = np.arange(1, steps + 1)
        self.host = np.arange(ranks) * len(HOSTS) // ranks
        self.parts = {part: mean_s * self.noise(0.05, steps, ranks) for part, mean_s in MEANS_S.items()}
        for part in ("forward", "backward"):
            self.parts[part][:, self.late] *= LATE_FACTOR
        first, last, factor = SLOW_INPUT
        self.parts["data_wait"][int(first * steps):int(last * steps)] *= factor
        # All go on when the gradients are there, which is when the last rank has handed over its last bucket and that has crossed the link.
        between = self.parts["optimizer"] + self.parts["other"]
        before = np.vstack([np.zeros(ranks), between[:-1]])
        work = self.parts["data_wait"] + self.parts["forward"] + self.parts["backward"]
        self.transfer = self.crossing(BUCKETS[-1], steps)
        self.end = began + np.cumsum((before + work).max(1) + self.transfer)[:, None]
        self.start = np.vstack([[[began]], self.end[:-1]]) + before
        self.arrival = self.start + work
        self.last_arrival = self.arrival.max(1, keepdims=True)
        self.parts["comm_exposed"] = self.end - self.arrival
        self.step_s = sum(self.parts.values())
        self.backward = self.arrival - self.parts["backward"]  # when it begins
        self.first_bucket = self.backward + self.parts["backward"] / len(BUCKETS)
        self.loss = (0.09 + 2.2 * np.exp(-7 * self.step / steps))[:, None] * self.noise(0.04, steps, ranks)
        self.clock_error = np.where(np.arange(ranks) > 0, CLOCK_ERROR_S * self.noise(0.2, steps, ranks), 0)

    def noise(self, spread, *shape):
        return np.exp(self.rng.normal(0, spread, shape))

    def crossing(self, size, steps):
        """Seconds in which a bucket crosses the link."""
        return (2 * LATENCY_S + size / BANDWIDTH) * self.noise(0.03, steps)

    def durations(self):
        """What `step` has the means of, and `rank_step` itself."""
        busy = self.end - self.first_bucket
        interval = np.vstack([np.full(self.ranks, np.nan), np.diff(self.first_bucket, axis=0)])
        of = {"step_s": self.step_s, "comm_busy_s": busy, "comm_wait_s": self.last_arrival - self.arrival, "comm_interval_s": interval}
        return {**of, "comm_transfer_s": busy - of["comm_wait_s"], **{f"{part}_s": seconds for part, seconds in self.parts.items()}}


def fill_steps(db, run):
    durations, epoch = run.durations(), (run.step - 1) // EPOCH_STEPS
    overlap = durations["comm_busy_s"] - run.parts["comm_exposed"]
    wire = sum(BUCKETS) // run.ranks
    about = {"grad_bytes": sum(BUCKETS), **MARKS}
    insert(db, "step", (run.steps,), step=run.step, epoch=epoch, time=run.start.min(1), loss=run.loss.mean(1), samples=run.batch, lr=0.01,
           step_max_s=run.step_s.max(1), overlap_ratio=overlap.sum(1) / durations["comm_busy_s"].sum(1), last_rank=run.arrival.argmax(1),
           wire_bytes=wire * run.ranks, grad_norm=None, timing="arrivals", clock_error_s=run.clock_error.max(1), **about,
           **{name: seconds.mean(1) for name, seconds in durations.items()})
    insert(db, "rank_step", (run.steps, run.ranks), step=run.step[:, None], rank=np.arange(run.ranks), start=run.start, epoch=epoch[:, None],
           loss=run.loss, samples=run.batch // run.ranks, arrival=run.arrival, comm_overlap_s=overlap, wire_bytes=wire,
           **{f"input_{what}_s": seconds * run.noise(0.1, run.steps, run.ranks) for what, seconds in INPUT_S.items()},
           input_ready=run.rng.integers(2, 5, (run.steps, run.ranks)), clock_error_s=run.clock_error, update_wait_s=0, **about, **durations)


class Bucket:
    """A bucket of the sampled steps `at`; `free`: when the one before it was done."""

    def __init__(self, run, at, seq, free):
        self.seq, self.name, self.size = seq, f"bucket.{seq}", BUCKETS[seq]
        self.arrival = run.backward[at] + run.parts["backward"][at] * (seq + 1) / len(BUCKETS)
        self.begin = np.maximum(self.arrival, free)
        self.all_there = self.begin.max(1, keepdims=True)
        last = seq == len(BUCKETS) - 1
        self.end = run.end[at] if last else self.all_there + run.crossing(self.size, len(at))[:, None]


def buckets_of(run, at):
    made = []
    for seq in range(len(BUCKETS)):
        made.append(Bucket(run, at, seq, made[-1].end if made else 0))
    return made


def fill_collectives(db, run, at, buckets):
    arrival, end = np.stack([bucket.arrival for bucket in buckets], 1), np.stack([bucket.end[:, 0] for bucket in buckets], 1)
    last, sizes = arrival.max(2), np.array(BUCKETS)
    algbw = sizes / (end - last)
    insert(db, "collective", end.shape, step=run.step[at][:, None], seq=np.arange(len(buckets)), name=[bucket.name for bucket in buckets],
           grad_bytes=sizes, wire_bytes=sizes, algorithm="ring", first_arrival=arrival.min(2), last_arrival=last, end=end,
           last_rank=arrival.argmax(2), algbw=algbw, busbw=algbw * 2 * (run.ranks - 1) / run.ranks, wait_s=last - arrival.mean(2),
           transfer_s=end - last, timing="arrivals", **MARKS)


def fill_messages(db, run, at, buckets):
    """Halves of each bucket there and back between the first ranks of both hosts."""
    begin, end = (np.stack(times, 1)[:, :, None] for times in ([b.all_there[:, 0] for b in buckets], [b.end[:, 0] for b in buckets]))
    ends, second = np.array([0, int(np.argmax(run.host == 1))]), np.array([0, 0, 1, 1])
    sent = begin + second * (end - begin) / 2 + GAP_S
    insert(db, "message", (len(at), len(buckets), len(second)), step=run.step[at][:, None, None], seq=np.arange(len(buckets))[:, None],
           number=np.arange(len(second)), **{"from": np.tile(ends, 2), "to": np.tile(ends[::-1], 2)}, bytes=np.array(BUCKETS)[:, None] // 2,
           sent=sent, ready=sent, came=sent + (end - begin) / 2 - GAP_S, **MARKS)


def layer_spans(part, begin, seconds, samples):
    """One after the other inside a pass that begins at `begin`."""
    backward, spans = part == "backward", []
    for name, share, flops in LAYERS[::-1] if backward else LAYERS:
        end = begin + share * seconds
        spans.append(("trainer", f"{part} {name}", begin, end, (2 if backward else 1) * samples / 32 * flops or None))
        begin = end
    return spans


def trainer_spans(run, at):
    """(thread, name, start, end, operations), a pass with its layers after it."""
    spans, begin = [], run.start[at]
    for part in ("data_wait", "forward", "backward", "comm_exposed", "optimizer", "other"):
        seconds = run.parts[part][at]
        spans.append(("trainer", part, begin, begin + seconds, None))
        if part in ("forward", "backward"):
            spans += layer_spans(part, begin, seconds, run.batch / run.ranks)
        begin = begin + seconds
    return spans


def input_spans(run, at):
    """Of the batch, which was made while the step before last computed."""
    begin = run.start[np.maximum(at - 2, 0)]
    spans = []
    for name, seconds in INPUT_S.items():
        spans.append(("input", name, begin, begin + seconds, None))
        begin = begin + seconds
    return spans


def fill_spans(db, run, at, buckets):
    spans = [(*span, None, None) for span in trainer_spans(run, at) + input_spans(run, at)]
    spans += [("communication", bucket.name, bucket.begin, bucket.end, None, bucket.seq, bucket.arrival) for bucket in buckets]
    shape = (len(at), run.ranks, len(spans))
    stacked = lambda k: np.stack([np.broadcast_to(np.asarray(span[k], object), shape[:2]) for span in spans], 2)
    insert(db, "span", shape, step=run.step[at][:, None, None], rank=np.arange(run.ranks)[:, None], number=np.arange(len(spans)),
           thread=[span[0] for span in spans], name=[span[1] for span in spans], start=stacked(2), end=stacked(3),
           flops=[span[4] for span in spans], seq=[span[5] for span in spans], arrival=stacked(6), **MARKS)


def fill_clocks(db, run, at):
    walk = np.cumsum(run.rng.normal(0, 1e-6, (run.ranks, len(at))), 1)
    own = np.arange(run.ranks)[:, None] > 0
    insert(db, "clock", walk.shape, rank=np.arange(run.ranks)[:, None], time=run.start[at].T, offset_s=np.where(own, walk, 0), drift=0,
           error_s=np.where(own, CLOCK_ERROR_S, 0), drift_error=np.where(own, 1e-6, 0), incarnation=1)


def fill_evaluations(db, run):
    """Returns the steps, from 0, at which accuracy is better than before."""
    at = np.arange(EVALUATE_EVERY - 1, run.steps, EVALUATE_EVERY)
    share = run.step[at] / run.steps
    accuracy = 0.985 - 0.6 * np.exp(-5 * share) - 0.002 * run.rng.random(len(at))
    loss = 0.14 + 1.9 * np.exp(-6 * share) * run.noise(0.02, len(at))
    insert(db, "evaluation", (len(at), 2), step=run.step[at][:, None], epoch=at[:, None] // EPOCH_STEPS, split="validation",
           metric=["accuracy", "loss"], value=np.stack([accuracy, loss], 1), samples=10000, seconds=0.9, **MARKS)
    return at[accuracy >= np.maximum.accumulate(accuracy)]


def fill_decisions(db, run, better):
    """As of a run whose checkpoints are those of the defaults: at each epoch's end, and of the best model."""
    made = [(at, "checkpoint", "epoch_end", f"the end of epoch {k + 1}") for k, at in enumerate(range(EPOCH_STEPS - 1, run.steps, EPOCH_STEPS))]
    made += [(at, "checkpoint", "best", f"accuracy is better at step {at + 1} than before") for at in better.tolist()]
    made += [(int(0.28 * run.steps), "buckets", "bucket_tuning", "tries 8 MiB in place of 25 MiB"),
             (int(0.42 * run.steps), "warning", "checkpoint", "the disk was full; the next checkpoint is tried as ever"),
             (run.steps - 1, "stop", "max_steps", f"step {run.steps} of max_steps {run.steps} is done")]
    made.sort()
    at, kind, rule, reason = map(list, zip(*made))
    insert(db, "decision", (len(made),), time=run.end[at, 0], step=run.step[at], kind=kind, rule=rule, reason=reason, directive=0, signal=0,
           failure=0)


def fill(path, steps, ranks, batch):
    """Into the run.db of a run that has ended, in place of what it measured."""
    db = sqlite3.connect(path, isolation_level=None)
    try:
        began = db.execute("select min(joined) from rank").fetchone()[0] + 1
        run, at = Run(steps, ranks, batch, began), np.arange(SAMPLE_EVERY - 1, steps, SAMPLE_EVERY)
        db.execute("pragma journal_mode = off")
        db.execute("pragma synchronous = off")
        db.execute("begin")
        for table in ("step", "rank_step", "collective", "span", "message", "clock", "evaluation", "decision", "rank"):
            db.execute(f"delete from {table}")
        db.execute("update communication set structure = 'hierarchical'")
        insert(db, "rank", (ranks,), rank=np.arange(ranks), host=np.array(HOSTS)[run.host], pid=1000 + np.arange(ranks), cores=8, joined=began - 1,
               left=run.end[-1, 0], why="done", incarnation=1)
        fill_steps(db, run)
        buckets = buckets_of(run, at)
        for table in (fill_collectives, fill_messages, fill_spans):
            table(db, run, at, buckets)
        fill_clocks(db, run, at)
        fill_decisions(db, run, fill_evaluations(db, run))
        db.execute("commit")
        db.execute("pragma journal_mode = delete")
    finally:
        db.close()
