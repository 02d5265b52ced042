"""A host of a lab that is a machine of its own as far as files and processes go: its root is this machine's, with whatever is written to
it kept apart, its /dev/shm its own. What is broken there is broken nowhere else, and gone with it.

    machine = Machine(["lockstep", "lab", "on", "2"], "/usr/sbin/sshd", "-D")    # what it is there for, its first process
    machine.sh("apt-get remove openmpi-bin")

Needs root and overlayfs.
"""
import pathlib
import shutil
import subprocess
import tempfile
import time

DEADLINE = 10  # s, for what takes milliseconds

BOOT = """
set -e
mount -t tmpfs -o size=4g own "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount --rbind /dev "$1/root/dev"
mount --rbind /sys "$1/root/sys"
mount -t proc proc "$1/root/proc"
umount "$1/root/dev/shm"
mount -t tmpfs -o size=256m own "$1/root/dev/shm"
root=$1
shift
exec chroot "$root/root" "$@"
"""


class Machine:
    def __init__(self, on_host, *first):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="lockstep-machine-"))
        self.process = subprocess.Popen([*on_host, "unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", BOOT, "sh", self.folder, *first],
                                        stdin=subprocess.DEVNULL)
        until = time.monotonic() + DEADLINE
        while (pid := self._first(first[0])) is None:
            if self.process.poll() is not None or time.monotonic() > until:
                self.end()
                raise RuntimeError(f"{first[0]} has not come up")
            time.sleep(0.02)  # between two looks, until DEADLINE
        self.pid = pid

    def _first(self, program):
        """The first process, once it has become what it is to be."""
        try:
            children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            return next((pid for pid in children if pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == pathlib.Path(program).name), None)
        except OSError:
            return None

    def words(self, command):
        """What runs a shell's command there."""
        return ["nsenter", "--target", str(self.pid), "--mount", "--pid", "--net", "--uts", "--root", "--wdns=/", "sh", "-c", command]

    def sh(self, command, timeout=120):
        done = subprocess.run(self.words(command), cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout)
        if done.returncode != 0:
            raise AssertionError(f"{command}: {done.stdout}")
        return done.stdout

    def end(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, True)
