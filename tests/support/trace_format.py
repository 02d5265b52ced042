"""A strict checker of traces in Chrome's Trace Event Format, as `lockstep trace` writes them: check(load(text)).

The format: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
"""
import collections
import json
import re
from decimal import Decimal

ROUNDING_US = Decimal("1e-6")  # whole nanoseconds, written as doubles of microseconds
THREADS = ("trainer", "communication", "input")

_FLOW = {"name": str, "cat": str, "id": int, "pid": int, "tid": int, "ts": Decimal}
KEYS = {"M": {"name": str, "pid": int, "tid": int, "args": dict},
        "X": {"name": str, "cat": str, "pid": int, "tid": int, "ts": Decimal, "dur": Decimal, "args": dict},
        "s": _FLOW, "t": _FLOW, "f": {**_FLOW, "bp": str}}
NAMED = {"process_name": {"name": str}, "process_sort_index": {"sort_index": int}, "thread_name": {"name": str}}
ARGUMENTS = {"step": int, "flops": Decimal, "seq": int, "handed_over_us_before": Decimal}


def load(text):
    """JSON as RFC 8259 has it, numbers exact. ValueError: no number, or a key twice."""
    def refuse(word):
        raise ValueError(f"{word} is no JSON")

    def unique(pairs):
        if len({key for key, _ in pairs}) < len(pairs):
            raise ValueError(f"a key twice: {[key for key, _ in pairs]}")
        return dict(pairs)
    return json.loads(text, parse_float=Decimal, parse_constant=refuse, object_pairs_hook=unique)


def value_faults(key, value, kind):
    if kind is not Decimal:
        return [] if type(value) is kind else [f"{key} is no {kind.__name__}"]
    if type(value) not in (int, Decimal):
        return [f"{key} is no number"]
    if not Decimal(value).is_finite():
        return [f"{key} is not finite"]
    return [] if value >= 0 else [f"{key} is negative"]


def object_faults(what, found, keys, optional=()):
    faults = [f"{key} is missing" for key in keys if key not in found and key not in optional]
    faults += [f"{key} is not known" for key in found if key not in keys]
    faults += [fault for key, kind in keys.items() if key in found for fault in value_faults(key, found[key], kind)]
    return [f"{what}: {fault}" for fault in faults]


def event_faults(event):
    if type(event) is not dict or event.get("ph") not in KEYS:
        return [f"{event}: no phase that is meant"]
    phase = event["ph"]
    faults = object_faults(str(event), event, {"ph": str, **KEYS[phase]})
    if faults or phase in "st":
        return faults
    if phase == "f":
        return [] if event["bp"] == "e" else [f"{event}: binds to the next slice"]
    if phase == "M" and event["name"] not in NAMED:
        return [f"{event}: no name that is meant"]
    keys = NAMED[event["name"]] if phase == "M" else ARGUMENTS
    return object_faults(f"{event}: args", event["args"], keys, () if phase == "M" else set(keys) - {"step"})


def form_faults(trace):
    if type(trace) is not dict or set(trace) != {"displayTimeUnit", "traceEvents"}:
        return ["not an object of displayTimeUnit and traceEvents"]
    if trace["displayTimeUnit"] not in ("ms", "ns") or type(trace["traceEvents"]) is not list:
        return ["displayTimeUnit or traceEvents is not what it has to be"]
    return [fault for event in trace["traceEvents"] for fault in event_faults(event)]


def name_faults(events):
    """One process a rank, with a thread for each kind; the names are there once, of those that have events, and of no others."""
    named = collections.defaultdict(list)
    for event in events:
        if event["ph"] == "M":
            thread = (event["pid"], event["tid"]) if event["name"] == "thread_name" else event["pid"]
            named[event["name"], thread] += event["args"].values()
    faults = [f"{thread} has {what} {len(values)} times" for (what, thread), values in named.items() if len(values) > 1]
    pids = {event["pid"] for event in events if event["ph"] != "M"}
    threads = {(event["pid"], event["tid"]) for event in events if event["ph"] != "M"}
    for what, used in (("process_name", pids), ("process_sort_index", pids), ("thread_name", threads)):
        have = {thread for name, thread in named if name == what}
        faults += [f"{thread} has no {what}" for thread in used - have] + [f"{thread} has a {what} and no events" for thread in have - used]
    for (what, thread), (value, *_) in named.items():
        if what == "thread_name" and not re.fullmatch(r"(trainer|communication|input)( [2-9]| [1-9]\d+)?", value):
            faults.append(f"{thread} is called {value}")
        if what == "process_name" and not re.fullmatch(rf"rank {thread}( on \S+)?", value) or what == "process_sort_index" and value != thread:
            faults.append(f"{thread} has {what} {value}")
    faults += [f"{pid} has a thread 0, which is thread {pid} in Perfetto" for pid in pids if {(pid, 0), (pid, pid)} <= threads and pid != 0]
    for pid in pids:
        kinds = [values[0] for (what, thread), values in named.items() if what == "thread_name" and thread[0] == pid]
        faults += [f"process {pid} has {kinds.count(kind)} threads {kind}" for kind in THREADS if kinds.count(kind) != 1]
    return faults


def ends(slice):
    return slice["ts"] + slice["dur"]


def by_thread(slices):
    threads = collections.defaultdict(list)
    for slice in slices:
        threads[slice["pid"], slice["tid"]].append(slice)
    return threads


def nesting_faults(slices):
    """On a thread each slice lies within the last one that is open, or after it; what holds others comes before them."""
    faults = [] if min((slice["ts"] for slice in slices), default=0) == 0 else ["the first slice does not begin at 0"]
    for thread in by_thread(slices).values():
        within, before = [], None
        for slice in thread:
            if before and (slice["ts"], -ends(slice)) < (before["ts"], -ends(before)):
                faults.append(f"{slice} is out of order after {before}")
            while within and ends(within[-1]) <= slice["ts"] + ROUNDING_US:
                within.pop()
            if within and ends(slice) > ends(within[-1]) + ROUNDING_US:
                faults.append(f"{slice} overlaps {within[-1]}")
            within.append(slice)
            before = slice
    return faults


def collective(slice):
    return slice["args"]["step"], slice["args"]["seq"]


def bound_to(event, threads):
    """The innermost slice at the event's time. None: there is none."""
    held = [slice for slice in threads[event["pid"], event["tid"]] if slice["ts"] <= event["ts"] < max(ends(slice), slice["ts"] + ROUNDING_US)]
    return held[-1] if held else None


def flow_faults(events, slices):
    """Each collective has one flow, forward in time, through its slice on every rank."""
    threads, flows, joined = by_thread(slices), collections.defaultdict(list), collections.Counter()
    for event in events:
        if event["ph"] in "stf":
            flows[event["id"]].append(event)
    faults = [f"{slice}: a collective has a seq, and nothing else has" for slice in slices
              if (slice["cat"] == "collective") != ("seq" in slice["args"]) or slice["cat"] not in ("collective", "span")]
    for number, flow in flows.items():
        if not re.fullmatch("st*f", "".join(event["ph"] for event in flow)):
            faults.append(f"flow {number} goes {[event['ph'] for event in flow]}")
        if len({(event["name"], event["cat"]) for event in flow}) > 1:
            faults.append(f"flow {number} has several names")
        if any(after["ts"] < event["ts"] for event, after in zip(flow, flow[1:])):
            faults.append(f"flow {number} goes back in time: {[str(event['ts']) for event in flow]}")
        slices_met = [bound_to(event, threads) for event in flow]
        if None in slices_met or any("seq" not in slice["args"] or slice["name"] != flow[0]["name"] for slice in slices_met):
            faults.append(f"flow {number} binds to no slice of {flow[0]['name']}")
            continue
        if len({collective(slice) for slice in slices_met}) > 1:
            faults.append(f"flow {number} joins several collectives")
        if {event["pid"] for event in flow} != {pid for pid, _ in threads} or len({event["pid"] for event in flow}) < len(flow):
            faults.append(f"flow {number} goes over ranks {[event['pid'] for event in flow]}")
        joined[collective(slices_met[0])] += 1
    each = {collective(slice) for slice in slices if "seq" in slice["args"]}
    return faults + [f"collective {one} has {joined[one]} flows" for one in sorted(each) if joined[one] != 1]


def check(trace):
    """What is wrong with a trace, as load() gives it, by the format and by what this product's traces promise. None: []."""
    faults = form_faults(trace)
    if faults:
        return faults  # the rest takes the form for granted
    events = trace["traceEvents"]
    slices = [event for event in events if event["ph"] == "X"]
    return [*name_faults(events), *nesting_faults(slices), *flow_faults(events, slices)]
