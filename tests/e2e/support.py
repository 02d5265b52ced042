"""What the end-to-end tests share: running the two binaries, reading what they leave behind."""
import atexit
import json
import os
import pathlib
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("LOCKSTEP_BIN", ROOT / "build" / "bin"))
LOCKSTEP = str(BIN / "lockstep")
EXAMPLES = ROOT / "deploy" / "examples"
MNIST = ROOT.parent / "shared" / "data" / "mnist"

# Tests may be run as root.
for variable in ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"):
    os.environ.setdefault(variable, "1")

# What one test run measures of communication is none of another's, nor of this machine's user.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="lockstep-cache-")
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], True)

_digits = {}


def digits(train=1200, val=200, seed=1):
    """A folder with drawn digits, made once a process."""
    key = (train, val, seed)
    if key not in _digits:
        folder = tempfile.mkdtemp(prefix="lockstep-digits-")
        run("dataset", "make", "digits", "--out", folder, "--train", train, "--val", val, "--seed", seed)
        _digits[key] = folder
        atexit.register(shutil.rmtree, folder, True)
    return _digits[key]


def run(*args, code=0, timeout=240, env=None, cwd=None, preexec_fn=None):
    """Runs lockstep to its end; its exit code must be `code` (None: any)."""
    done = subprocess.run([LOCKSTEP, *map(str, args)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, timeout=timeout, env={**os.environ, **(env or {})}, cwd=cwd, preexec_fn=preexec_fn)
    if code is not None and done.returncode != code:
        raise AssertionError(f"lockstep {' '.join(map(str, args))}: exit {done.returncode}, not {code}\n{done.stdout}\n{done.stderr}")
    return done


def start(*args, env=None, cwd=None, stdout=subprocess.PIPE):
    return subprocess.Popen([LOCKSTEP, *map(str, args)], stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE,
                            text=True, env={**os.environ, **(env or {})}, cwd=cwd)


def wait_for(condition, what, timeout=60, every=0.02):
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        value = condition()
        if value:
            return value
        time.sleep(every)  # between two looks at a condition that has a deadline
    raise AssertionError(f"{what}: not within {timeout} s")


def status(folder):
    done = run("status", folder, "--json", code=None, timeout=20)
    return json.loads(done.stdout) if done.returncode == 0 and done.stdout.strip() else None


def rows(folder, sql, *parameters):
    with sqlite3.connect(f"file:{folder}/run.db?mode=ro", uri=True) as db:
        db.row_factory = sqlite3.Row
        return [dict(row) for row in db.execute(sql, parameters)]


def step_now(folder):
    try:
        return rows(folder, "select max(step) as s from step")[0]["s"] or 0
    except sqlite3.Error:
        return 0


def safetensors(path):
    """Name to (dtype, shape, bytes), read by hand."""
    raw = pathlib.Path(path).read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8:8 + length])
    data = raw[8 + length:]
    return {name: (t["dtype"], t["shape"], data[slice(*t["data_offsets"])]) for name, t in header.items() if name != "__metadata__"}


def tensors(path):
    """Name to float32 numpy array."""
    import numpy
    return {name: numpy.frombuffer(data, numpy.float32).reshape(shape) for name, (dtype, shape, data) in safetensors(path).items()
            if dtype == "F32"}


def checkpoint(folder, which="latest"):
    return pathlib.Path(folder) / "checkpoints" / which


def accuracy(folder):
    """At the end."""
    return rows(folder, "select value from evaluation where survived and metric = 'accuracy' order by step desc limit 1")[0]["value"]


def same_checkpoint(one, other):
    """None, or what differs between the tensors of two checkpoint folders."""
    for name in ("model.safetensors", "optimizer.safetensors"):
        a, b = safetensors(pathlib.Path(one) / name), safetensors(pathlib.Path(other) / name)
        if a.keys() != b.keys():
            return f"{name}: names differ: {sorted(a.keys() ^ b.keys())}"
        for key in a:
            if a[key] != b[key]:
                return f"{name}: {key} differs"
    a, b = (json.loads((pathlib.Path(x) / "state.json").read_text()) for x in (one, other))
    for key in ("cursor", "globalBatchSize", "seed", "bestStep", "bestValue"):
        left, right = dict(a).get(key), dict(b).get(key)
        if key == "cursor":
            left, right = ({k: v for k, v in x.items() if not k.startswith(("epochSeconds", "epoch_seconds"))} for x in (left, right))
        if left != right:
            return f"state.json: {key}: {left} and {right}"
    return None


def processes():
    """pid to (parent, command line) of every process whose command line names our binaries or mpirun."""
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            stat = (entry / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        program = line.split(" ")[0].rsplit("/", 1)[-1]
        if stat[0] != "Z" and program.startswith(("lockstep", "mpirun", "orted")):
            found[int(entry.name)] = (int(stat[1]), line)
    return found


def family(pid):
    """The processes below `pid`, by /proc."""
    everyone = processes()
    below, grown = {pid}, True
    while grown:
        more = {p for p, (parent, _) in everyone.items() if parent in below} - below
        grown = bool(more)
        below |= more
    return {p: everyone[p][1] for p in below - {pid} if p in everyone}


def traces():
    """What a run could leave behind on the machine, outside its folder."""
    runtime = pathlib.Path(os.environ.get("XDG_RUNTIME_DIR", f"/tmp/lockstep-{os.getuid()}"))
    places = [*pathlib.Path("/dev/shm").glob("*"), *pathlib.Path("/tmp").glob("ompi.*"), *pathlib.Path("/tmp").glob("openmpi-*"),
              *runtime.glob("*.json"), *(runtime / "lockstep").glob("*")]
    return {str(p) for p in places if p.name != "lockstep"}


def listening(pid=None):
    """(address, inode) of the TCP sockets on which one process listens, whatever network it is in, or all of processes() in this one."""
    sockets = set()
    for table in (f"/proc/{pid or 'self'}/net/tcp", f"/proc/{pid or 'self'}/net/tcp6"):
        for line in pathlib.Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                sockets.add((fields[1], fields[9]))
    ours = set()
    for process in processes() if pid is None else [pid]:
        try:
            ours |= {os.readlink(fd) for fd in pathlib.Path(f"/proc/{process}/fd").iterdir()}
        except OSError:
            pass  # it has ended
    return {(address, inode) for address, inode in sockets if f"socket:[{inode}]" in ours}


ALL_SKIPPED = 77  # as tests/e2e/CMakeLists.txt has it


def run_tests(argv=None):
    """Of the file that is being run; where all are skipped ctest is to say so."""
    result = unittest.main(argv=argv, verbosity=2, exit=False).result
    if not result.wasSuccessful():
        sys.exit(1)
    sys.exit(ALL_SKIPPED if len(result.skipped) == result.testsRun else 0)


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="lockstep-e2e-"))
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.started = []
        self.addCleanup(self.end_all)

    def end_all(self):
        for child in self.started:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
                child.send_signal(signal.SIGTERM)
                try:
                    child.wait(20)
                except subprocess.TimeoutExpired:
                    child.kill()
            for pipe in (child.stdout, child.stderr):
                if pipe:
                    pipe.close()

    def start(self, *args, **kwargs):
        self.started.append(start(*args, **kwargs))
        return self.started[-1]

    def expect_nothing_left(self, before, timeout=0):
        """No more than those traces(), now or within `timeout` seconds; what others had left may be swept away meanwhile."""
        until = time.monotonic() + timeout
        while traces() - before and time.monotonic() < until:
            time.sleep(0.02)  # between two looks, until the deadline
        self.assertEqual(traces() - before, set())

    def expect_same_parameters(self, one, other, which="latest"):
        """Of two runs' checkpoints, within what another order of additions makes of 20 steps."""
        import numpy
        left, right = (tensors(checkpoint(folder, which) / "model.safetensors") for folder in (one, other))
        self.assertEqual(left.keys(), right.keys())
        for name in left:
            self.assertLessEqual(float(numpy.abs(left[name] - right[name]).max()), 1e-5, name)

    def expect_same_accuracy(self, one, other, delta=0.001):
        """At the end of two runs; a sample in a thousand may lie on the border. More after some hundred steps of a CNN: there two ways to
        add the same gradients up lead apart (mpi and ring on one machine: 0.0015 after 158 steps)."""
        self.assertAlmostEqual(accuracy(one), accuracy(other), delta=delta)

    def expect_same_training(self, here, there):
        """After 20 steps, of which both have a checkpoint, and at the end."""
        self.expect_same_parameters(here, there, "step-00000020")
        self.expect_same_accuracy(here, there)

    def config(self, text, name="config.yaml"):
        path = self.folder / name
        path.write_text(text)
        return path

    def small(self, data=None, **settings):
        """A config of a small mlp on drawn digits; settings by path with __ for the dot, as convergence__max_epochs=2."""
        base = {"data.path": data or digits(), "data.batch_size": 32, "model.name": "mlp", "model.hidden": "[64]",
                "optimizer.lr": 0.05, "convergence.max_epochs": 2, "run.seed": 3, "checkpoint.keep_last": 0}
        base.update({key.replace("__", "."): value for key, value in settings.items()})
        if base["model.name"] not in ("mlp", "wide"):
            del base["model.hidden"]
        tree = {}
        for key, value in base.items():
            section, _, field = key.rpartition(".")
            tree.setdefault(section, {})[field] = value
        lines = []
        for section, fields in tree.items():
            indent = ""
            if section:
                lines.append(f"{section}:")
                indent = "  "
            lines += [f"{indent}{field}: {str(value).lower() if isinstance(value, bool) else value}" for field, value in fields.items()]
        return self.config("\n".join(lines) + "\n", f"config-{len(list(self.folder.iterdir()))}.yaml")
