"""deploy/docker-compose.yml on a real Docker engine: 4 workers, one killed, and a run that is taken down. As root."""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import unittest

from support import BIN, ROOT, Case, checkpoint, run, run_tests, wait_for

BASE, BINARIES, IMAGE, PROJECT = "lockstep-test-base", "lockstep-test-binaries", "lockstep", "lockstep-e2e"
PAYLOAD = 1448 / 1514  # of an Ethernet frame's bytes, which tc counts
COMPOSE = ["docker-compose", "-p", PROJECT, "-f", str(ROOT / "deploy" / "docker-compose.yml")]


def why_not():
    missing = [tool for tool in ("docker", "dockerd", "docker-compose", "debootstrap") if shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin") is None]
    if missing:
        return f"needs Debian's docker.io, docker-compose and debootstrap: {', '.join(missing)} is not there"
    return None if os.geteuid() == 0 else "dockerd needs root"


def docker(*words, **options):
    done = subprocess.run(["docker", *map(str, words)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          **{"timeout": 900, **options})
    if done.returncode != 0:
        raise AssertionError(f"docker {' '.join(map(str, words))}: exit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done.stdout


def image_exists(name):
    return subprocess.run(["docker", "image", "inspect", name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


@unittest.skipIf(why_not(), why_not())
class Containers(Case):
    engine = None

    @classmethod
    def setUpClass(cls):
        if subprocess.run(["docker", "info"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode != 0:
            cls.engine = subprocess.Popen(["dockerd"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            cls.addClassCleanup(cls.engine.wait, 60)
            cls.addClassCleanup(cls.engine.send_signal, signal.SIGTERM)
            wait_for(lambda: subprocess.run(["docker", "info"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0, "dockerd", timeout=60)
        if not image_exists(BASE):
            subprocess.run([ROOT / "tests" / "support" / "docker_base.sh", BASE], check=True, timeout=900)
        cls.build()

    @classmethod
    def build(cls):
        """The Dockerfile, with the binaries that are under test in place of those it would build."""
        folder = pathlib.Path(os.environ.get("TMPDIR", "/tmp")) / f"lockstep-binaries-{os.getpid()}"
        try:
            (folder / "opt/lockstep/bin").mkdir(parents=True)
            for name in ("lockstep", "lockstep-worker"):
                shutil.copy(BIN / name, folder / "opt/lockstep/bin" / name)
            pack = subprocess.Popen(["tar", "-C", folder, "-c", "."], stdout=subprocess.PIPE)
            subprocess.run(["docker", "import", "-", BINARIES], stdin=pack.stdout, stdout=subprocess.DEVNULL, check=True)
            pack.wait()
        finally:
            shutil.rmtree(folder, True)
        # Debian's own builder would compile all the same.
        text = (ROOT / "deploy/Dockerfile").read_text()
        less, count = re.subn(r"FROM installed AS build\n.*?\n\n", "", text, flags=re.S)
        assert count == 1, text
        path = pathlib.Path(tempfile.mkdtemp(prefix="lockstep-dockerfile-")) / "Dockerfile"
        cls.addClassCleanup(shutil.rmtree, path.parent, True)
        path.write_text(less)
        docker("build", "--network", "host", "--build-arg", f"BASE={BASE}", "--build-arg", f"BINARIES={BINARIES}", "-f", path, "-t", IMAGE, ROOT)

    def setUp(self):
        super().setUp()
        self.compose("down", "--volumes", "--timeout", 5)
        self.addCleanup(self.compose, "down", "--volumes", "--timeout", 5)

    def environment(self, options, **more):
        return {**os.environ, "LOCKSTEP_OPTIONS": options, "LOCKSTEP_CPUS": "0.9", **more}

    def compose(self, *words, options="", code=0, timeout=300, files=(), **environment):
        done = subprocess.run([*COMPOSE, *files, *map(str, words)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout,
                              env=self.environment(options, **environment))
        if code is not None:
            self.assertEqual(done.returncode, code, done.stdout)
        return done.stdout

    def run_folder(self):
        """A copy of what is on the volume."""
        packed = self.folder / "runs.tar"
        with packed.open("wb") as to:
            subprocess.run(["docker", "run", "--rm", "--entrypoint", "tar", "-v", f"{PROJECT}_runs:/runs", IMAGE, "-C", "/runs", "-c", "."], stdout=to, check=True)
        folder = self.folder / "volume"
        shutil.rmtree(folder, True)
        with tarfile.open(packed) as files:
            files.extractall(folder, filter="fully_trusted") if sys.version_info >= (3, 12) else files.extractall(folder)
        return folder / "run"

    def container(self, service, number=1):
        return f"{PROJECT}_{service}_{number}"

    def exit_code(self, service):
        return int(docker("inspect", "-f", "{{.State.ExitCode}}", self.container(service)))

    def step(self):
        done = subprocess.run(["docker", "exec", self.container("coordinator"), "lockstep", "status", "/runs/run", "--json"], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True)
        return json.loads(done.stdout)["step"] if done.returncode == 0 else 0

    def test_four_workers_train_to_the_same_parameters_and_leave_by_themselves(self):
        options = "--set convergence.max_epochs=1 --set checkpoint.every_steps=20 --set checkpoint.keep_last=0"
        said = self.compose("up", "--scale", "worker=4", options=options)
        self.assertRegex(said, r"4 workers")
        self.assertRegex(said, r"accuracy")
        self.assertEqual(self.exit_code("coordinator"), 0)
        run("dataset", "make", "digits", "--out", self.folder / "digits")
        run("run", ROOT / "deploy/examples/digits-cnn.yaml", "--workers", 4, "--out", self.folder / "here", "--set", f"data.path={self.folder}/digits",
            *options.split())
        self.expect_same_training(self.folder / "here", self.run_folder())
        self.secrets()

    def secrets(self):
        """None in the image's layers or in the run's folder."""
        names = ("id_ed25519", "PRIVATE KEY", "BEGIN CERTIFICATE")
        for path in self.run_folder().rglob("*"):
            if path.is_file():
                content = path.read_bytes()
                self.assertFalse([name for name in names if name.encode() in content], path)
        found = docker("run", "--rm", "--user", "root", "--entrypoint", "sh", IMAGE, "-c", "ls -A /keys /hosts /etc/ssh; grep -rlsE 'PRIVATE KEY' /etc/ssh /home /usr/local || true")
        self.assertNotIn("ssh_host", found)
        self.assertNotIn("id", found.split())

    def test_a_killed_worker_ends_the_run_and_the_same_command_goes_on(self):
        timeout = 5
        long = f"--set convergence.max_epochs=1000 --set checkpoint.every_steps=20 --set communication.timeout={timeout}"
        up = subprocess.Popen([*COMPOSE, "up", "--scale", "worker=4"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              env=self.environment(long))
        self.started.append(up)
        wait_for(lambda: self.step() > 40, "steps", timeout=240, every=0.5)
        host = docker("inspect", "-f", "{{.Config.Hostname}}", self.container("worker", 2)).strip()
        docker("kill", self.container("worker", 2))
        docker("wait", self.container("coordinator"), timeout=timeout + 5)
        said = up.communicate(timeout=60)[0]
        self.assertEqual(self.exit_code("coordinator"), 1)
        self.assertRegex(said, rf"(?m)^.*on {host} .*(lost|ended|died|killed).*$")
        left = docker("ps", "-q", "--filter", f"name={PROJECT}_worker").split()
        self.assertEqual(left, [], "workers that are left")
        self.assertIn("goes on with it", said)
        said = self.compose("up", "--scale", "worker=4", options="--set convergence.max_steps=200")
        self.assertEqual(self.exit_code("coordinator"), 0, said)
        run("dataset", "make", "digits", "--out", self.folder / "digits")
        run("run", ROOT / "deploy/examples/digits-cnn.yaml", "--workers", 4, "--out", self.folder / "whole", "--set", f"data.path={self.folder}/digits",
            "--set", "convergence.max_steps=200", "--set", "convergence.max_epochs=1000")
        self.expect_same_accuracy(self.folder / "whole", self.run_folder(), delta=0.01)
        self.assertRegex(said, r"accuracy")

    def test_links_of_a_rate(self):
        """As the run itself finds them to be."""
        options = "--set model.name=mlp --set model.hidden=[1024] --set convergence.max_steps=30 --set profile.sample_every=2 --set communication.algorithm=ring"
        self.compose("up", "--scale", "worker=2", options=options, files=["-f", str(ROOT / "deploy/docker-compose.shaped.yml")], LOCKSTEP_RATE="100mbit")
        links = json.loads(run("report", self.run_folder(), "--json").stdout)["links"]
        self.assertEqual(len(links), 2, links)
        for link in links:
            self.assertLessEqual(abs(link["bandwidth_bytes_per_s"] * 8e-6 / PAYLOAD - 100), 15, link)

    def test_down_takes_a_checkpoint_first(self):
        up = subprocess.Popen([*COMPOSE, "up", "--scale", "worker=2"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              env=self.environment("--set convergence.max_epochs=1000"))
        self.started.append(up)
        wait_for(lambda: self.step() > 20, "steps", timeout=240, every=0.5)
        self.compose("down")
        said = up.communicate(timeout=60)[0]
        self.assertRegex(said, r"exit code 3")
        self.assertTrue((checkpoint(self.run_folder()) / "MANIFEST.json").exists())
        self.assertIn("resumable", run("runs", env={"LOCKSTEP_RUNS": str(self.run_folder().parent)}).stdout)


if __name__ == "__main__":
    run_tests()
