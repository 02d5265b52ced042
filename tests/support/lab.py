"""A cluster on this machine, for tests and benchmarks: `lockstep lab` (network namespaces with links of a rate) as an object.

    with Lab(hosts=4, rate="1gbit") as lab:
        lab.run(2, "hostname")                                # on host 2 of 1 … 4
        subprocess.run(lab.mpirun(4, "lockstep-worker", …))   # one rank a host in turn
        lab.cut(3), lab.mend(3), lab.set_rate("200mbit"), lab.goodput()

It carries this program's process in its name, so that one whose program has died is found and taken away by the next one.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

BIN = pathlib.Path(os.environ.get("LOCKSTEP_BIN", pathlib.Path(__file__).resolve().parents[2] / "build" / "bin"))
LOCKSTEP = str(BIN / "lockstep")
NETWORK = "10.77.0"
SWITCH = 0  # the namespace of the bridge
PORT = 47077  # of goodput's listener
DEADLINE = 10  # s, for what takes milliseconds


class LabError(Exception):
    """Why there is no lab, and what to do."""


def process_start(pid):
    """When it was started, in the kernel's ticks; None: there is no such process."""
    try:
        return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19])
    except (OSError, IndexError):
        return None


def owner_is_gone(name):
    """False for a lab that no program owns: it stands until it is told to go."""
    owner = re.fullmatch(r"of\.(\d+)\.(\d+)", name)
    return owner is not None and process_start(int(owner[1])) != int(owner[2])


def call(*words):
    done = subprocess.run([LOCKSTEP, "lab", *map(str, words)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise LabError(done.stderr.strip().removeprefix("lockstep: "))
    return done.stdout


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


def labs():
    """Their names."""
    spaces = pathlib.Path("/run/netns")
    return {space.name.removeprefix("lockstep-").rsplit("-", 1)[0] for space in spaces.glob("lockstep-*")} if spaces.is_dir() else set()


def sweep():
    """Takes away the labs of programs that have died."""
    for name in labs():
        if owner_is_gone(name):
            Lab(name=name).down()


class Lab:
    """One cluster. Made by up() or `with`; an existing one is used by its name."""

    def __init__(self, hosts=0, rate="none", name=None):
        self.name = name or f"of.{os.getpid()}.{process_start(os.getpid())}"
        self.hosts, self.rate = hosts, rate
        self.scratch = pathlib.Path("/dev/shm") / f"lockstep-lab-{self.name}"  # Open MPI's files

    def __enter__(self):
        self.up()
        return self

    def __exit__(self, *_):
        self.down()

    def up(self):
        if reason := why_not():
            raise LabError(reason)
        sweep()
        call("up", "--name", self.name, "--hosts", self.hosts, "--rate", self.rate)
        self.scratch.mkdir(mode=0o700)

    def down(self):
        """With every process that runs in it, however it was started, and the files of Open MPI. Fine if there is none."""
        call("down", "--name", self.name)
        shutil.rmtree(self.scratch, True)

    def processes(self, host=None):
        """Process numbers of what runs on a host, or on all, but for those that have ended and wait for their parents."""
        def lives(pid):
            try:
                return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
            except OSError:
                return False
        pids = []
        for one in self.all_hosts() if host is None else [host]:
            listed = subprocess.run(["ip", "netns", "pids", f"lockstep-{self.name}-{one}"], check=True, stdout=subprocess.PIPE, text=True)
            pids += [int(pid) for pid in listed.stdout.split() if lives(pid)]
        return pids

    def set_rate(self, rate, host=None):
        """Of the links, both directions: as tc takes it (1gbit, 200mbit), or none."""
        call("rate", "--name", self.name, rate, *([] if host is None else [host]))

    def cut(self, host):
        """Takes the host's link down: nothing passes any more, and no connection is ended by it."""
        call("cut", "--name", self.name, host)

    def mend(self, host):
        call("mend", "--name", self.name, host)

    def address(self, host):
        return f"{NETWORK}.{host}"

    def all_hosts(self):
        return range(1, self.hosts + 1)

    def command(self, host, *words):
        """What runs `words` on a host: for subprocess."""
        return [LOCKSTEP, "lab", "on", "--name", self.name, str(host), *map(str, words)]

    def run(self, host, *words, **options):
        return subprocess.run(self.command(host, *words), **{"check": True, **options})

    def start(self, host, *words, **options):
        return subprocess.Popen(self.command(host, *words), **options)

    def mpirun(self, ranks, *words):
        """What runs mpirun on host 1, with one rank a host in turn, for what `lockstep run --lab` does not start; the environment as of
        mpirun_environment(). What it took:

        --bind-to none   the hosts share this machine's cores, and each one's first rank would be bound to the first of them
        host names       ranks on hosts of one name would be taken for neighbours that share memory
        *_if_include     Open MPI tries every interface that is up, and hangs on the wrong one
        """
        net = f"{NETWORK}.0/24"
        mca = {"plm_rsh_agent": f"{LOCKSTEP} lab rsh --name {self.name}", "oob_tcp_if_include": net, "btl_tcp_if_include": net,
               "pml": "ob1", "btl": "tcp,vader,self", "mpi_yield_when_idle": 1,
               "orte_tmpdir_base": self.scratch, "btl_vader_backing_directory": self.scratch}
        hosts = ",".join(f"{self.address(host)}:{ranks}" for host in self.all_hosts())
        flags = [word for name, value in mca.items() for word in ("--mca", name, value)]
        return self.command(1, "mpirun", "-np", ranks, "--host", hosts, "--map-by", "node", "--bind-to", "none", *flags, *words)

    @staticmethod
    def mpirun_environment(**more):
        return {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", **more}


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
