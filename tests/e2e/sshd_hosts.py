"""Hosts of a lab with sshd, for tests that need a cluster as clusters are. As root."""
import os
import pathlib
import shutil
import subprocess
import sys

from support import LOCKSTEP, ROOT, Case, run, wait_for

sys.path.insert(0, str(ROOT / "tests" / "support"))

from lab import why_not as no_lab  # noqa: E402
from machine import Machine  # noqa: E402

NAME = "sshd"
SSHD = "/usr/sbin/sshd"


def why_not():
    return no_lab() or (None if os.path.exists(SSHD) and shutil.which("ssh") else "needs Debian's openssh-server and openssh-client")


def on(host, *words):
    return [LOCKSTEP, "lab", "on", "--name", NAME, str(host), *map(str, words)]


class SshdHosts(Case):
    HOSTS = (1, 2)
    OURS = [LOCKSTEP]  # how it is started on host 1
    SETTINGS = "PasswordAuthentication no\n"  # of sshd

    def setUp(self):
        super().setUp()
        run("lab", "down", "--name", NAME)
        run("lab", "up", "--name", NAME, "--hosts", len(self.HOSTS), "--rate", "1gbit")
        self.addCleanup(run, "lab", "down", "--name", NAME)
        for key in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / key], check=True)
        (self.folder / "authorized").write_text((self.folder / "user.pub").read_text())
        known = self.folder / "known"
        host_key = " ".join((self.folder / "host.pub").read_text().split()[:2])
        known.write_text("".join(f"10.77.0.{host} {host_key}\n" for host in self.HOSTS))
        self.ssh_config = self.config(f"Host *\n IdentityFile {self.folder}/user\n IdentitiesOnly yes\n UserKnownHostsFile {known}\n", "ssh_config")
        self.ssh = f"ssh -F {self.ssh_config}"
        pathlib.Path("/run/sshd").mkdir(exist_ok=True)
        for host in self.HOSTS:
            self.serve(host)
            self.await_sshd(host)

    def sshd_config(self, host):
        return self.config(f"ListenAddress 10.77.0.{host}\nHostKey {self.folder}/host\nAuthorizedKeysFile {self.folder}/authorized\nPidFile none\n"
                           f"StrictModes no\nPermitRootLogin yes\nUsePAM no\nSubsystem sftp internal-sftp\n{self.SETTINGS}", f"sshd_config_{host}")

    def serve(self, host):
        subprocess.run(on(host, SSHD, "-f", self.sshd_config(host), "-E", self.folder / f"sshd_{host}.log"), check=True)

    def await_sshd(self, host):
        ready = [sys.executable, "-c", f"import socket; socket.create_connection(('10.77.0.{host}', 22), timeout=1)"]
        wait_for(lambda: subprocess.run(on(1, *ready), stderr=subprocess.DEVNULL).returncode == 0, f"sshd of host {host}")

    def here(self, *words):
        return on(1, *words)

    def ours(self, *words, code=0, timeout=120, env=None):
        """lockstep on host 1, as a person would type it there."""
        done = subprocess.run(self.here(*self.OURS, *words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=timeout,
                              env={**os.environ, **(env or {})})
        if code is not None:
            self.assertEqual(done.returncode, code, f"{done.stdout}\n{done.stderr}")
        return done


class MachineHosts(SshdHosts):
    """Those in MACHINES are machines of their own, so that what is done to them is done to nothing else."""
    MACHINES = (2,)

    def setUp(self):
        self.machines = {}
        super().setUp()

    def serve(self, number):
        if number not in self.MACHINES:
            return super().serve(number)
        log = self.folder / f"sshd_{number}.log"
        self.machines[number] = Machine(on(number), SSHD, "-D", "-f", self.sshd_config(number), "-E", log)
        self.addCleanup(self.machines[number].end)
