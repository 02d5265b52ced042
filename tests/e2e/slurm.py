"""Slurm as Debian has it, on this machine as its one node and on two hosts of a lab: jobs through sbatch, with their time running out in the
middle, and with a worker or a step killed. As root."""
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

from support import BIN, LOCKSTEP, ROOT, Case, checkpoint, rows, run, run_tests, step_now, traces, wait_for

sys.path.insert(0, str(ROOT / "tests" / "support"))

from lab import why_not as no_lab  # noqa: E402

TOOLS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "srun")
SCRIPT = ROOT / "deploy" / "slurm" / "lockstep.sbatch"
PORT = 47100
LAB = "slurm"


def why_not():
    if os.geteuid() != 0:
        return "slurmd and munged need root"
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    missing = [tool for tool in TOOLS if shutil.which(tool, path=path) is None]
    return f"needs Debian's slurm-wlm and munge: {', '.join(missing)} is not there" if missing else None


class Cluster:
    """Its nodes are this machine, or hosts of a lab that know each other by name; its files are in a folder of its own."""

    def __init__(self, folder, lab_hosts=0):
        self.folder, self.started, self.lab_hosts = folder, [], lab_hosts
        names = [f"host{number}" for number in range(1, lab_hosts + 1)] or [os.uname().nodename.split(".")[0]]
        addresses = [f"10.77.0.{number}" for number in range(1, lab_hosts + 1)] or ["127.0.0.1"]
        nodes = "\n".join(f"NodeName={name} NodeAddr={address} CPUs={os.cpu_count()} State=UNKNOWN" for name, address in zip(names, addresses))
        (folder / "hosts").write_text("127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for name, address in zip(names, addresses)))
        for name in ("state", *(f"spool.{name}" for name in names)):
            (folder / name).mkdir()
        key = folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        self.socket = folder / "munge.socket"
        (folder / "slurm.conf").write_text(f"""
ClusterName=lockstep
SlurmctldHost={names[0]}({addresses[0]})
SlurmUser=root
SlurmctldPort={PORT}
SlurmdPort={PORT + 1}
AuthType=auth/munge
AuthInfo=socket={self.socket},cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,batch_sched_delay=0
MpiDefault=none
ReturnToService=2
KillWait=5
JobRequeue=1
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
""")
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "PATH": f"{BIN}:{os.environ['PATH']}:/usr/sbin:/sbin",
                            "LOCKSTEP_RUNS": str(folder / "runs")}

    def up(self):
        self.start("munged", "--foreground", "--force", f"--key-file={self.folder}/munge.key", f"--socket={self.socket}", f"--pid-file={self.folder}/munged.pid",
                   f"--log-file={self.folder}/munged.log", f"--seed-file={self.folder}/munged.seed")
        wait_for(self.socket.exists, "munged")
        self.start(*self.on(1, "slurmctld", "-D", "-i"))
        for number in range(1, max(1, self.lab_hosts) + 1):
            self.start(*self.on(number, "slurmd", "-D"))
        wait_for(lambda: self.call("sinfo", "-h", "-o", "%D %T", code=None).strip() == f"{max(1, self.lab_hosts)} idle", "the nodes to be idle", timeout=60)

    def on(self, number, *command):
        if not self.lab_hosts:
            return command
        mount = f'mount --bind {self.folder}/hosts /etc/hosts && exec "$@"'
        return [LOCKSTEP, "lab", "on", "--name", LAB, str(number), "unshare", "--mount", "sh", "-c", mount, "sh", *map(str, command)]

    def start(self, *command):
        self.started.append(subprocess.Popen(command, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    def call(self, *command, code=0):
        done = subprocess.run([str(word) for word in self.on(1, *command)], env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=60, cwd=self.folder)
        if code is not None and done.returncode != code:
            raise AssertionError(f"{command}: exit code {done.returncode}\n{done.stdout}")
        return done.stdout

    def down(self):
        if self.started:
            self.call("scancel", "--user=root", code=None)
            wait_for(lambda: not self.call("squeue", "-h", code=None).strip(), "the queue to be empty", timeout=30)
        for process in reversed(self.started):
            process.send_signal(signal.SIGTERM)
        for process in self.started:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def submit(self, *words, nodes=1, tasks=2):
        said = self.call("sbatch", f"--ntasks-per-node={tasks}", f"--nodes={nodes}", "--cpus-per-task=1", f"--output={self.folder}/job-%j.out", SCRIPT, *words)
        return int(re.search(r"Submitted batch job (\d+)", said)[1])

    def state(self, job):
        return re.search(r"JobState=(\S+)", self.call("scontrol", "show", "job", job))[1]

    def output(self, job):
        path = self.folder / f"job-{job}.out"
        return path.read_text() if path.exists() else ""


@unittest.skipIf(why_not(), why_not())
class Jobs(Case):
    @classmethod
    def setUpClass(cls):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="lockstep-slurm-"))
        cls.addClassCleanup(shutil.rmtree, folder, True)
        cls.cluster = Cluster(folder)
        cls.addClassCleanup(cls.cluster.down)
        cls.cluster.up()

    def setUp(self):
        super().setUp()
        self.before = traces()

    def wait_for_state(self, job, *states, timeout=90):
        wait_for(lambda: self.cluster.state(job) in states, f"job {job} to be {' or '.join(states)}: {self.cluster.output(job)}", timeout=timeout, every=0.2)

    def test_a_job_trains_to_the_same_parameters_as_on_one_machine(self):
        config = self.small(checkpoint__every_steps=20)
        run("run", config, "--workers", 2, "--out", self.folder / "here")
        job = self.cluster.submit(config)
        self.wait_for_state(job, "COMPLETED")
        self.expect_same_training(self.folder / "here", self.cluster.folder / "runs" / f"slurm-{job}")
        self.expect_nothing_left(self.before)

    def test_what_the_command_line_says_goes_before_what_the_job_says(self):
        out = self.folder / "own"
        job = self.cluster.submit(self.small(convergence__max_steps=10), "--set", "threads=2", f"--out={out}")
        self.wait_for_state(job, "COMPLETED")
        self.assertEqual(step_now(out), 10)
        self.assertIn("\nthreads: 2\n", (out / "config.yaml").read_text())

    def interrupted(self, interrupt, *words):
        """A job that is interrupted in the middle, with what one says that is not."""
        config = self.small(convergence__max_epochs=60, checkpoint__every_steps=50)
        run("run", config, "--workers", 2, "--out", self.folder / "here")
        job = self.cluster.submit(config, *words)
        out = self.cluster.folder / "runs" / f"slurm-{job}"
        wait_for(lambda: step_now(out) > 120, "steps", timeout=60)
        interrupt(job, out)
        wait_for(lambda: "back into the queue" in self.cluster.output(job), "the requeue", timeout=60)
        self.wait_for_state(job, "COMPLETED", timeout=180)
        self.expect_same_parameters(self.folder / "here", out)
        self.expect_same_accuracy(self.folder / "here", out)
        launches = rows(out, "select count(distinct incarnation) as n from rank")[0]["n"]
        self.assertEqual(launches, 2, self.cluster.output(job))

    def test_before_its_time_is_up_a_job_takes_a_checkpoint_and_goes_on_by_itself(self):
        self.interrupted(lambda job, out: self.cluster.call("scancel", "--batch", "--signal=USR1", job))

    def test_a_requeued_job_has_the_options_that_a_run_does_not_remember(self):
        job = self.cluster.submit(self.small(convergence__max_epochs=100000, checkpoint__every_steps=20), "--workers", 1, "--insecure", "--set", "run.name=a b")
        out = self.cluster.folder / "runs" / f"slurm-{job}"
        wait_for(lambda: (checkpoint(out) / "MANIFEST.json").exists(), "a checkpoint")
        self.cluster.call("scancel", "--batch", "--signal=USR1", job)
        wait_for(lambda: "back into the queue" in self.cluster.output(job), "the requeue", timeout=60)
        wait_for(lambda: rows(out, "select count(distinct incarnation) as n from rank")[0]["n"] == 2, "the next try", timeout=60)
        self.cluster.call("scancel", job)
        self.wait_for_state(job, "CANCELLED")
        self.assertEqual({row["n"] for row in rows(out, "select count(*) as n from rank group by incarnation")}, {1})
        self.assertEqual(self.cluster.output(job).count("Without TLS"), 2, self.cluster.output(job))

    def test_a_killed_worker_ends_the_try_and_the_next_goes_on(self):
        def kill(job, out):
            pid = rows(out, "select pid from rank where rank = 1")[0]["pid"]
            os.kill(pid, signal.SIGKILL)
        self.interrupted(kill)

    def test_a_cancelled_job_stays_cancelled_and_can_be_gone_on_with(self):
        config = self.small(convergence__max_epochs=100000, checkpoint__every_steps=20)
        job = self.cluster.submit(config)
        out = self.cluster.folder / "runs" / f"slurm-{job}"
        wait_for(lambda: (checkpoint(out) / "MANIFEST.json").exists(), "a checkpoint")
        self.cluster.call("scancel", job)
        self.wait_for_state(job, "CANCELLED")
        self.expect_nothing_left(self.before, timeout=20)
        self.assertNotIn("back into the queue", self.cluster.output(job))
        again = self.cluster.submit("--resume", out, "--set", f"convergence.max_steps={step_now(out) + 20}")
        self.wait_for_state(again, "COMPLETED")

    def test_what_is_wrong_with_a_config_is_in_the_jobs_output_and_it_is_not_tried_again(self):
        job = self.cluster.submit(self.config("data: {path: /nowhere}\n"))
        self.wait_for_state(job, "FAILED")
        said = self.cluster.output(job)
        self.assertIn("/nowhere", said)
        self.assertNotIn("back into the queue", said)


@unittest.skipIf(why_not() or no_lab(), why_not() or no_lab())
class TwoNodes(Case):
    """Where the workers of the second one are a step of the job's."""

    def setUp(self):
        super().setUp()
        run("lab", "down", "--name", LAB)
        run("lab", "up", "--name", LAB, "--hosts", 2, "--rate", "1gbit")
        self.addCleanup(run, "lab", "down", "--name", LAB)
        self.cluster = Cluster(self.folder, lab_hosts=2)
        self.addCleanup(self.cluster.down)
        self.cluster.up()

    def test_a_killed_step_ends_the_try_and_the_requeue_goes_on(self):
        config = self.small(convergence__max_epochs=60, checkpoint__every_steps=50, communication__timeout=5)
        run("run", config, "--workers", 2, "--out", self.folder / "here")
        before = traces()
        job = self.cluster.submit(config, nodes=2, tasks=1)
        out = self.cluster.folder / "runs" / f"slurm-{job}"
        wait_for(lambda: step_now(out) > 120, "steps", timeout=60)
        self.assertEqual({row["host"] for row in rows(out, "select host from rank")}, {"host1", "host2"})
        steps = re.findall(rf"^StepId={job}\.(\d+) ", self.cluster.call("scontrol", "--oneliner", "show", "step", job), re.M)
        self.assertEqual(len(steps), 1, steps)
        self.cluster.call("scancel", "--signal=KILL", f"{job}.{steps[0]}")
        wait_for(lambda: "back into the queue" in self.cluster.output(job), "the requeue", timeout=5 + 5)
        self.assertRegex(self.cluster.output(job), r"(?m)^.*host2.*$")
        wait_for(lambda: self.cluster.state(job) == "COMPLETED", f"the job's end: {self.cluster.output(job)}", timeout=180, every=0.2)
        self.expect_same_parameters(self.folder / "here", out)
        self.expect_same_accuracy(self.folder / "here", out)
        self.expect_nothing_left(before)


if __name__ == "__main__":
    run_tests()
