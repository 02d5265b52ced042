"""A cluster on this machine, for tests and benchmarks: each host is a network namespace with a host name of its own, joined to a
switch by a link that is shaped to a rate in each direction.

    with Lab(hosts=4, rate="1gbit") as lab:
        lab.run(2, "hostname")                                # on host 2 of 1 … 4
        subprocess.run(lab.mpirun(4, "lockstep-worker", …))   # one rank a host in turn
        lab.cut(3), lab.mend(3), lab.set_rate("200mbit"), lab.goodput()

All of it, the switch too, lies in namespaces named lockstep-<lab>-<host>: labs stand side by side with the same addresses, and
nothing is put into the machine's own network. A lab of a program carries that program's process in its name, so that one whose
program has died is found and taken away by the next one and by `tests/bench/lab down`.

Needs root and Debian's iproute2, util-linux (nsenter, unshare) and openmpi-bin.
"""
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

PREFIX = "lockstep-"
NETWORK = "10.77.0"
SWITCH = 0  # the namespace of the bridge
PORT = 47077  # of goodput's listener, in a namespace of its own
CONGESTION_CONTROL = "cubic"  # Linux's own choice
DEADLINE = 10  # s, for what takes milliseconds
PROGRAM = pathlib.Path(__file__).resolve().parents[1] / "bench" / "lab"


class LabError(Exception):
    """Why there is no lab, and what to do."""


def process_start(pid):
    """When it was started, in the kernel's ticks; None: there is no such process."""
    try:
        return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19])
    except (OSError, IndexError):
        return None


def own_name():
    return f"of.{os.getpid()}.{process_start(os.getpid())}"


def owner_is_gone(name):
    """False for a lab that no program owns: it stands until it is told to go."""
    owner = re.fullmatch(r"of\.(\d+)\.(\d+)", name)
    return owner is not None and process_start(int(owner[1])) != int(owner[2])


def _ip(*arguments):
    done = subprocess.run(["ip", *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise LabError(f"ip {' '.join(map(str, arguments))}: {done.stderr.strip()}")
    return done.stdout


def labs():
    """Name to its hosts, the switch left out."""
    found = {}
    for line in _ip("netns", "list").splitlines():
        space = re.match(rf"{PREFIX}(\S+)-(\d+)\b", line)
        if space:
            found.setdefault(space[1], set()).add(int(space[2]))
    return {name: sorted(hosts - {SWITCH}) for name, hosts in found.items()}


def why_not():
    """What keeps this machine from having a lab; None: nothing."""
    if os.geteuid() != 0:
        return "a lab's network namespaces need root: run it with sudo"
    for tool, package in (("ip", "iproute2"), ("tc", "iproute2"), ("nsenter", "util-linux"), ("unshare", "util-linux")):
        if shutil.which(tool) is None:
            return f"a lab needs {tool}: apt-get install {package}"
    if subprocess.run(["unshare", "-n", "true"], stderr=subprocess.DEVNULL).returncode != 0:
        return "this machine gives no network namespaces: a container needs --privileged for a lab"
    return None


def sweep():
    """Takes away the labs of programs that have died."""
    for name in labs():
        if owner_is_gone(name):
            Lab(name=name).down()


class Lab:
    """One cluster. Made by up() or `with`; an existing one is used by its name."""

    def __init__(self, hosts=0, rate="none", name=None):
        self.name = name or own_name()
        if not re.fullmatch(r"[A-Za-z0-9_.]{1,40}", self.name):
            raise LabError(f"'{self.name}' is no name for a lab: up to 40 letters, digits, '_' and '.'")
        self.hosts, self.rate = hosts, rate
        shm = pathlib.Path("/dev/shm")
        self.scratch = (shm if shm.is_dir() else pathlib.Path("/tmp")) / f"{PREFIX}lab-{self.name}"  # Open MPI's files

    def __enter__(self):
        self.up()
        return self

    def __exit__(self, *_):
        self.down()

    # --- the cluster

    def up(self):
        if reason := why_not():
            raise LabError(reason)
        if not 1 <= self.hosts <= 200:
            raise LabError(f"a lab has 1 to 200 hosts, not {self.hosts}")
        sweep()
        if self.name in labs():
            raise LabError(f"there is a lab '{self.name}' already: take it down first, or give this one another name")
        try:
            self.scratch.mkdir(mode=0o700)
            _ip("netns", "add", self.space(SWITCH))
            _ip("-n", self.space(SWITCH), "link", "add", "switch", "type", "bridge")
            _ip("-n", self.space(SWITCH), "link", "set", "switch", "up")
            for host in range(1, self.hosts + 1):
                self._add(host)
            self.set_rate(self.rate)
        except BaseException:
            self.down()
            raise

    def _add(self, host):
        space, switch, port = self.space(host), self.space(SWITCH), self.port(host)
        _ip("netns", "add", space)
        _ip("-n", switch, "link", "add", port, "type", "veth", "peer", "name", "e0", "netns", space)
        _ip("-n", switch, "link", "set", port, "master", "switch", "up")
        _ip("-n", space, "addr", "add", f"{self.address(host)}/24", "dev", "e0")
        _ip("-n", space, "link", "set", "e0", "up")
        _ip("-n", space, "link", "set", "lo", "up")
        # Not what this machine happens to use among the internet's hosts: bbr gets half of a shaped link that is busy both ways.
        _ip("-n", space, "route", "replace", f"{NETWORK}.0/24", "dev", "e0", "scope", "link", "src", self.address(host), "congctl", CONGESTION_CONTROL)

    def down(self):
        """With every process that runs in it, however it was started, and the files of Open MPI. Fine if there is none."""
        spaces = [self.space(host) for host in [*labs().get(self.name, []), SWITCH]]
        spaces = [space for space in spaces if pathlib.Path("/run/netns", space).exists()]
        until = time.monotonic() + DEADLINE
        while pids := {pid for space in spaces for pid in self._processes(space)}:
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass  # it has ended
            if time.monotonic() > until:
                raise LabError(f"lab '{self.name}': processes {sorted(pids)} do not end")
            time.sleep(0.01)  # between two looks at a condition that has a deadline
        for space in spaces:
            _ip("netns", "del", space)
        shutil.rmtree(self.scratch, True)

    @staticmethod
    def _processes(space):
        """Of a namespace; those that have ended and wait for their parents left out."""
        def lives(pid):
            try:
                return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
            except OSError:
                return False
        return [int(pid) for pid in _ip("netns", "pids", space).split() if int(pid) != os.getpid() and lives(pid)]

    def processes(self, host=None):
        """Process numbers of what runs on a host, or on all."""
        hosts = self.all_hosts() if host is None else [host]
        return [pid for one in hosts for pid in self._processes(self.space(one))]

    def set_rate(self, rate, host=None):
        """Shapes the links, both directions: as tc takes it (1gbit, 200mbit), or none."""
        for one in self.all_hosts() if host is None else [self._check(host)]:
            for space, device in ((self.space(one), "e0"), (self.space(SWITCH), self.port(one))):
                self._shape(space, device, rate)

    @staticmethod
    def _shape(space, device, rate):
        show = ["tc", "-n", space, "qdisc", "show", "dev", device]
        shaped = "tbf" in subprocess.run(show, check=True, stdout=subprocess.PIPE, text=True).stdout
        if rate == "none" and not shaped:
            return
        change = ["replace", "dev", device, "root", "tbf", "rate", rate, "burst", "256kb", "latency", "50ms"]
        if rate == "none":
            change = ["del", "dev", device, "root"]
        done = subprocess.run(["tc", "-n", space, "qdisc", *change], stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise LabError(f"rate {rate}: {' '.join(done.stderr.split())}; write it as 1gbit, 200mbit or none")

    def cut(self, host):
        """Takes the host's link down: nothing passes any more, and no connection is ended by it."""
        _ip("-n", self.space(SWITCH), "link", "set", self.port(self._check(host)), "down")

    def mend(self, host):
        _ip("-n", self.space(SWITCH), "link", "set", self.port(self._check(host)), "up")

    # --- where things are

    def space(self, host):
        return f"{PREFIX}{self.name}-{host}"

    def address(self, host):
        return f"{NETWORK}.{host}"

    @staticmethod
    def port(host):
        return f"p{host}"

    def all_hosts(self):
        hosts = list(range(1, self.hosts + 1)) if self.hosts else labs().get(self.name, [])
        if not hosts:
            raise LabError(f"there is no lab '{self.name}': tests/bench/lab --name {self.name} up HOSTS RATE")
        return hosts

    def _check(self, host):
        if int(host) not in self.all_hosts():
            raise LabError(f"lab '{self.name}' has hosts {', '.join(map(str, self.all_hosts()))}, no {host}")
        return int(host)

    # --- commands on the hosts

    def command(self, host, *words):
        """What runs `words` on a host: for subprocess."""
        enter = ["nsenter", f"--net=/run/netns/{self.space(self._check(host))}", "unshare", "-u"]
        return [*enter, "sh", "-c", 'hostname "$0" && exec "$@"', f"host{host}", *map(str, words)]

    def run(self, host, *words, **options):
        return subprocess.run(self.command(host, *words), **{"check": True, **options})

    def start(self, host, *words, **options):
        return subprocess.Popen(self.command(host, *words), **options)

    def mpirun(self, ranks, *words):
        """What runs mpirun on host 1, with one rank a host in turn; the environment as of mpirun_environment(). What it took:

        --bind-to none   the hosts share this machine's cores, and each one's first rank would be bound to the first of them
        host names       ranks on hosts of one name would be taken for neighbours that share memory
        *_if_include     Open MPI tries every interface that is up, and hangs on the wrong one
        """
        net = f"{NETWORK}.0/24"
        mca = {"plm_rsh_agent": f"{PROGRAM} --name {self.name} rsh", "oob_tcp_if_include": net, "btl_tcp_if_include": net,
               "pml": "ob1", "btl": "tcp,vader,self", "mpi_yield_when_idle": 1,
               "orte_tmpdir_base": self.scratch, "btl_vader_backing_directory": self.scratch}
        hosts = ",".join(f"{self.address(host)}:{ranks}" for host in self.all_hosts())
        flags = [word for name, value in mca.items() for word in ("--mca", name, value)]
        return self.command(1, "mpirun", "-np", ranks, "--host", hosts, "--map-by", "node", "--bind-to", "none", *flags, *words)

    @staticmethod
    def mpirun_environment(**more):
        return {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", **more}

    # --- the link

    def goodput(self, seconds=2.0, both_ways=False, one=1, other=2):
        """Bytes per second of one TCP stream between two hosts; with both_ways of the slower of two, one each way at once. The
        first quarter of the time, in which the link lets a burst through and TCP finds its rate, does not count."""
        ways = [(one, other), (other, one)] if both_ways else [(one, other)]
        receivers = [self.start(to, sys.executable, __file__, "receive", self.address(to), seconds, stdout=subprocess.PIPE, text=True)
                     for _, to in ways]
        senders = []
        try:
            for receiver in receivers:
                if receiver.stdout.readline() != "listening\n":
                    raise LabError("measuring the link: no listener")
            senders = [self.start(at, sys.executable, __file__, "send", self.address(to)) for at, to in ways]
            return min(float(receiver.communicate(timeout=seconds + DEADLINE)[0]) for receiver in receivers)
        except (subprocess.TimeoutExpired, ValueError) as error:
            raise LabError(f"measuring the link between hosts {one} and {other}: nothing came through") from error
        finally:
            for process in receivers + senders:
                process.kill()
                process.wait()


def receive(address, seconds):
    """Prints bytes per second, of what comes in between a quarter of the time and its end."""
    import socket
    with socket.create_server((address, PORT)) as server:
        server.settimeout(DEADLINE)
        print("listening", flush=True)
        with server.accept()[0] as stream:
            stream.settimeout(DEADLINE)
            start, counted, since = time.monotonic(), 0, None
            while time.monotonic() < start + seconds:
                got = len(stream.recv(1 << 20))
                if got == 0:
                    sys.exit("the sender has left")
                if since is not None:
                    counted += got
                elif time.monotonic() > start + seconds / 4:
                    since = time.monotonic()
            print(counted / (time.monotonic() - since), flush=True)


def send(address):
    import socket
    with socket.create_connection((address, PORT), timeout=DEADLINE) as stream:
        data = bytes(1 << 20)
        try:
            while True:
                stream.sendall(data)
        except OSError:
            pass  # the receiver has what it wants


if __name__ == "__main__":
    {"receive": lambda: receive(sys.argv[2], float(sys.argv[3])), "send": lambda: send(sys.argv[2])}[sys.argv[1]]()
