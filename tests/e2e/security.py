"""Who may talk to a run, and what a run shows of its secret."""
import os
import pathlib
import resource
import signal
import socket
import subprocess
import unittest

from support import BIN, LOCKSTEP, Case, digits, family, listening, processes, rows, run, run_tests, status, step_now, traces, wait_for


class Security(Case):
    def live(self):
        """A run under way, and its coordinator's process."""
        self.out = self.folder / "out"
        self.job = self.start("run", self.small(convergence__max_epochs=1000000), "--workers", 2, "--out", self.out)
        wait_for(lambda: step_now(self.out) > 3, "steps")
        return next(pid for pid, line in family(self.job.pid).items() if " serve " in line)

    def test_the_coordinator_binds_loopback_alone(self):
        opened = listening(self.live())
        self.assertTrue(opened)
        for address, _ in opened:
            # 127.0.0.1, as itself or within IPv6; in /proc's byte order.
            self.assertIn(address.split(":")[0], ("0100007F", "0000000000000000FFFF00000100007F"), address)

    def test_the_token_is_on_no_command_line_and_in_no_file_of_the_run(self):
        coordinator = self.live()
        environment = pathlib.Path(f"/proc/{coordinator}/environ").read_bytes().split(b"\0")
        token = next(e.split(b"=", 1)[1] for e in environment if e.startswith(b"LOCKSTEP_TOKEN="))
        self.assertGreaterEqual(len(token), 32)
        for pid, (_, line) in processes().items():
            self.assertNotIn(token.decode(), line)
        self.job.send_signal(signal.SIGINT)  # a live run's checkpoints move while one looks
        self.assertEqual(self.job.wait(60), 3)
        for path in self.out.rglob("*"):
            if path.is_file():
                self.assertNotIn(token, path.read_bytes(), path)

    @unittest.skipIf(os.geteuid() != 0 or any(map(os.path.exists, ("/.dockerenv", "/run/.containerenv"))), "only root outside of a container is refused")
    def test_root_has_to_say_so(self):
        variables = {"OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "container"}
        environment = {name: value for name, value in os.environ.items() if name not in variables}
        words = [LOCKSTEP, "run", self.small(convergence__max_steps=5), "--workers", "2", "--out", self.folder / "root"]
        refused = subprocess.run(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
        self.assertEqual((refused.returncode, refused.stdout), (2, ""))
        self.assertIn("--allow-root", refused.stderr)
        self.assertFalse((self.folder / "root").exists())
        subprocess.run([*words, "--allow-root"], env=environment, check=True, stdout=subprocess.DEVNULL, timeout=120)

    def test_a_proxy_in_the_environment_is_ignored(self):
        out = self.folder / "proxied"
        dead = "http://127.0.0.1:9"
        run("run", self.small(convergence__max_epochs=1), "--workers", 2, "--out", out,
            env={"http_proxy": dead, "https_proxy": dead, "HTTP_PROXY": dead, "no_proxy": "", "grpc_proxy": dead})

    def test_ten_thousand_connections_at_once_have_no_effect_on_a_run(self):
        coordinator = self.live()
        host, port = self.address().split(":")
        descriptors = pathlib.Path(f"/proc/{coordinator}/fd")
        before = len(list(descriptors.iterdir()))
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        count = min(10000, hard - 200)
        connections = [socket.create_connection((host, int(port)), timeout=30) for _ in range(count)]
        for connection in connections:
            connection.send(b"\x16")  # as TLS begins, and then nothing
        at = step_now(self.out)
        wait_for(lambda: step_now(self.out) > at + 20, "the run to go on")
        for connection in connections:
            connection.close()
        wait_for(lambda: len(list(descriptors.iterdir())) <= before + 20, "the connections to be let go", timeout=30)
        self.job.send_signal(signal.SIGINT)
        self.assertEqual(self.job.wait(60), 3)
        if count < 10000:
            self.skipTest(f"done with {count} connections: this machine lets a process have no more files")

    def address(self):
        """Of the coordinator, as the workers have it."""
        for _, line in family(self.job.pid).items():
            words = line.split()
            if "--coordinator" in words:
                return words[words.index("--coordinator") + 1]
        self.fail("no worker")

    def test_by_hand_a_worker_without_the_token_or_with_another_is_refused(self):
        self.live()
        address = self.address()
        environment = dict(os.environ)
        for token in (None, "0" * 64):
            extra = {} if token is None else {"LOCKSTEP_TOKEN": token}
            environment.pop("LOCKSTEP_TOKEN", None)
            done = subprocess.run([str(BIN / "lockstep-worker"), "--coordinator", address], env={**environment, **extra}, text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("token", done.stdout.lower())
        before = step_now(self.out)
        wait_for(lambda: step_now(self.out) > before, "the run to go on")


if __name__ == "__main__":
    run_tests()
