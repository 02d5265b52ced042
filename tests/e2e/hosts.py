"""Two hosts with sshd, reached by a hostfile as a cluster's are. The hosts are a lab's; everything else is the real thing. As root."""
import os
import pathlib
import shutil
import subprocess
import sys
import unittest

import numpy

from support import BIN, LOCKSTEP, ROOT, Case, checkpoint, run, tensors, traces, wait_for

sys.path.insert(0, str(ROOT / "tests" / "support"))

from lab import why_not as no_lab  # noqa: E402

NAME, HOSTS = "sshd", (1, 2)
SSHD = "/usr/sbin/sshd"


def why_not():
    return no_lab() or (None if os.path.exists(SSHD) and shutil.which("ssh") else "needs Debian's openssh-server and openssh-client")


def on(host, *words):
    return [LOCKSTEP, "lab", "on", "--name", NAME, str(host), *map(str, words)]


@unittest.skipIf(why_not(), why_not())
class ByHostfile(Case):
    def setUp(self):
        super().setUp()
        run("lab", "down", "--name", NAME)
        run("lab", "up", "--name", NAME, "--hosts", len(HOSTS), "--rate", "1gbit")
        self.addCleanup(run, "lab", "down", "--name", NAME)
        for key in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / key], check=True)
        (self.folder / "authorized").write_text((self.folder / "user.pub").read_text())
        self.known = self.folder / "known"
        host_key = " ".join((self.folder / "host.pub").read_text().split()[:2])
        self.known.write_text("".join(f"10.77.0.{host} {host_key}\n" for host in HOSTS))
        self.ssh_config = self.config(f"Host *\n IdentityFile {self.folder}/user\n IdentitiesOnly yes\n UserKnownHostsFile {self.known}\n", "ssh_config")
        pathlib.Path("/run/sshd").mkdir(exist_ok=True)
        for host in HOSTS:
            self.serve(host)
        self.hostfile = self.config("".join(f"10.77.0.{host} slots=1\n" for host in HOSTS), "hosts")
        self.before = traces()

    def serve(self, host):
        config = self.config(f"ListenAddress 10.77.0.{host}\nHostKey {self.folder}/host\nAuthorizedKeysFile {self.folder}/authorized\nPidFile none\n"
                             "StrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\nUsePAM no\n", f"sshd_config_{host}")
        subprocess.run(on(host, SSHD, "-f", config, "-E", self.folder / f"sshd_{host}.log"), check=True)
        ready = [sys.executable, "-c", f"import socket; socket.create_connection(('10.77.0.{host}', 22), timeout=1)"]
        wait_for(lambda: subprocess.run(on(1, *ready), stderr=subprocess.DEVNULL).returncode == 0, f"sshd of host {host}")

    def ours(self, *words, code=0, timeout=120):
        """lockstep on host 1, as a person would type it there."""
        done = subprocess.run(on(1, LOCKSTEP, *words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=timeout)
        self.assertEqual(done.returncode, code, f"{done.stdout}\n{done.stderr}")
        return done

    def dead_interfaces(self):
        """As docker0 is on every host of many clusters: up, with the same address everywhere, and leading nowhere. And one more."""
        for host in HOSTS:
            for name, address in (("docker0", "172.17.0.1/16"), ("virbr0", "192.168.122.1/24")):
                for words in (["link", "add", name, "type", "bridge"], ["addr", "add", address, "dev", name], ["link", "set", name, "up"]):
                    subprocess.run(on(host, "ip", *words), check=True)

    def test_the_same_parameters_as_on_one_machine_and_nothing_left(self):
        config = self.small(convergence__max_steps=20)
        run("run", config, "--workers", 2, "--out", self.folder / "here")
        self.ours("run", config, "--hostfile", self.hostfile, "--ssh", f"ssh -F {self.ssh_config}", "--out", self.folder / "there")
        one, other = (tensors(checkpoint(self.folder / name) / "model.safetensors") for name in ("here", "there"))
        for name in one:
            self.assertLessEqual(float(numpy.abs(one[name] - other[name]).max()), 1e-5, name)
        self.assertEqual(traces(), self.before)

    def test_dead_interfaces_hang_plain_mpirun_and_not_us(self):
        self.dead_interfaces()
        agent = self.config(f"#!/bin/sh\nexec ssh -F {self.ssh_config} \"$@\"\n", "agent")
        agent.chmod(0o700)
        plain = on(1, "mpirun", "--allow-run-as-root", "-np", 2, "--hostfile", self.hostfile, "--bind-to", "none", "--mca", "plm_rsh_agent", agent,
                   BIN / "lockstep-worker", "--bench", "allreduce", "--sizes", "1M", "--algorithms", "mpi", "--seconds", "0.1")
        hangs = subprocess.Popen(plain, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            with self.assertRaises(subprocess.TimeoutExpired, msg="plain mpirun found its way past docker0"):
                hangs.wait(15)
        finally:
            os.killpg(hangs.pid, 9)
            hangs.wait()
        self.ours("run", self.small(convergence__max_steps=20), "--hostfile", self.hostfile, "--ssh", f"ssh -F {self.ssh_config}", "--out", self.folder / "run")

    def test_a_host_that_asks_for_a_password_or_is_not_there_is_named(self):
        (self.folder / "authorized").write_text("")
        config = self.small(convergence__max_steps=20)
        words = ["run", config, "--ssh", f"ssh -F {self.ssh_config}", "--out", self.folder / "refused"]
        said = self.ours(*words, "--hostfile", self.hostfile, code=2).stderr
        self.assertIn("host 10.77.0.2 cannot be reached without a prompt", said)
        self.assertIn("Permission denied", said)
        self.assertEqual(len(said.splitlines()), 1, said)
        said = self.ours(*words, "--hosts", "10.77.0.1,10.77.0.9", code=2).stderr
        self.assertIn("host 10.77.0.9", said)
        self.assertFalse((self.folder / "refused").exists())
        self.assertEqual(traces(), self.before)


if __name__ == "__main__":
    unittest.main(verbosity=2)
