"""Two hosts with sshd, reached by a hostfile as a cluster's are. The hosts are a lab's; everything else is the real thing. As root."""
import os
import re
import subprocess
import time
import unittest

from sshd_hosts import NAME, SSHD, MachineHosts, SshdHosts, on, why_not
from support import BIN, LOCKSTEP, checkpoint, processes, run, run_tests, step_now, traces, wait_for


@unittest.skipIf(why_not(), why_not())
class ByHostfile(SshdHosts):
    def setUp(self):
        super().setUp()
        self.hostfile = self.config("".join(f"10.77.0.{host} slots=1\n" for host in self.HOSTS), "hosts")
        self.before = traces()

    def dead_interfaces(self):
        """As docker0 is on every host of many clusters: up, with the same address everywhere, and leading nowhere. And one more."""
        for host in self.HOSTS:
            for name, address in (("docker0", "172.17.0.1/16"), ("virbr0", "192.168.122.1/24")):
                for words in (["link", "add", name, "type", "bridge"], ["addr", "add", address, "dev", name], ["link", "set", name, "up"]):
                    subprocess.run(on(host, "ip", *words), check=True)

    def test_the_same_parameters_as_on_one_machine_and_nothing_left(self):
        config = self.small(checkpoint__every_steps=20)
        run("run", config, "--workers", 2, "--out", self.folder / "here")
        self.ours("run", config, "--hostfile", self.hostfile, "--ssh", self.ssh, "--out", self.folder / "there")
        self.expect_same_training(self.folder / "here", self.folder / "there")
        self.expect_nothing_left(self.before)

    def test_without_tls_it_says_so(self):
        said = self.ours("run", self.small(convergence__max_steps=5), "--hostfile", self.hostfile, "--ssh", self.ssh, "--out", self.folder / "bare", "--insecure").stdout
        self.assertIn("\nWithout TLS the token travels in the clear", said)

    def test_a_dry_run_says_where_the_workers_would_be_and_starts_none(self):
        done = self.ours("run", self.small(), "--hostfile", self.hostfile, "--ssh", self.ssh, "--dry-run")
        self.assertIn("\nworkers: 2\n", done.stdout)
        self.assertIn("# on 10.77.0.1:1,10.77.0.2:1 over 10.77.0.0/24\n", done.stdout)
        self.expect_nothing_left(self.before)
        self.assertIn("host 10.77.0.9", self.ours("run", self.small(), "--hosts", "10.77.0.9", "--ssh", self.ssh, "--dry-run", code=2).stderr)

    def test_dead_interfaces_hang_plain_mpirun_and_not_us(self):
        agent = self.config(f"#!/bin/sh\nexec {self.ssh} \"$@\"\n", "agent")
        agent.chmod(0o700)
        plain = on(1, "mpirun", "--allow-run-as-root", "-np", 2, "--hostfile", self.hostfile, "--bind-to", "none", "--mca", "plm_rsh_agent", agent,
                   BIN / "lockstep-worker", "--bench", "allreduce", "--sizes", "1M", "--algorithms", "mpi", "--seconds", "0.1")
        since = time.monotonic()
        done = subprocess.run(plain, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, f"without them: {done.stdout}")
        takes = time.monotonic() - since
        self.dead_interfaces()
        hangs = subprocess.Popen(plain, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            with self.assertRaises(subprocess.TimeoutExpired, msg="plain mpirun found its way past docker0"):
                hangs.wait(10 + 3 * takes)
        finally:
            os.killpg(hangs.pid, 9)
            hangs.wait()
        self.ours("run", self.small(convergence__max_steps=20), "--hostfile", self.hostfile, "--ssh", self.ssh, "--out", self.folder / "run")

    def test_a_host_by_a_name_that_only_ssh_knows(self):
        config = self.folder / "ssh_config"
        config.write_text("Host second\n HostName 10.77.0.2\n" + config.read_text())
        out = self.folder / "run"
        self.ours("run", self.small(convergence__max_steps=20), "--hosts", "10.77.0.1:1,second:1", "--ssh", self.ssh, "--out", out)
        self.assertEqual(step_now(out), 20)
        self.expect_nothing_left(self.before)

    def test_a_further_address_in_the_runs_network_is_not_used(self):
        """As kube-proxy and load balancers put a service's on every host that may have it."""
        for host in self.HOSTS:
            for words in (["link", "add", "services", "type", "bridge"], ["addr", "add", "10.77.0.200/32", "dev", "services"], ["link", "set", "services", "up"]):
                subprocess.run(on(host, "ip", *words), check=True)
        out = self.folder / "run"
        said = self.ours("run", self.small(convergence__max_steps=20), "--hostfile", self.hostfile, "--ssh", self.ssh, "--out", out).stdout
        self.assertIn("over 10.77.0.1/31, 10.77.0.2/31", said)
        self.assertEqual(step_now(out), 20)

    def test_a_host_that_asks_for_a_password_or_is_not_there_is_named(self):
        (self.folder / "authorized").write_text("")
        config = self.small(convergence__max_steps=20)
        words = ["run", config, "--ssh", self.ssh, "--out", self.folder / "refused"]
        said = self.ours(*words, "--hostfile", self.hostfile, code=2).stderr
        self.assertIn("host 10.77.0.2 cannot be reached without a prompt", said)
        self.assertIn("Permission denied", said)
        self.assertEqual(len(said.splitlines()), 1, said)
        said = self.ours(*words, "--hosts", "10.77.0.1,10.77.0.9", code=2).stderr
        self.assertIn("host 10.77.0.9", said)
        self.assertFalse((self.folder / "refused").exists())
        self.expect_nothing_left(self.before)


@unittest.skipIf(why_not(), why_not())
class BehindARouter(SshdHosts):
    """The second host is in a network of its own, 10.78.0.0/24."""
    AWAY = "10.78.0.2"

    def setUp(self):
        super().setUp()
        switch, first, second = (f"lockstep-{NAME}-{number}" for number in (0, *self.HOSTS))

        def ip(space, *words):
            subprocess.run(["ip", "-n", space, *words], check=True)

        for network in ("10.77.0", "10.78.0"):
            ip(switch, "addr", "add", f"{network}.254/24", "dev", "switch")
        subprocess.run(["ip", "netns", "exec", switch, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.send_redirects=0",
                        "net.ipv4.conf.switch.send_redirects=0"], check=True)
        ip(second, "addr", "add", f"{self.AWAY}/24", "dev", "e0")
        ip(second, "addr", "del", "10.77.0.2/24", "dev", "e0")
        for space, router in ((first, "10.77.0.254"), (second, "10.78.0.254")):
            ip(space, "route", "add", "default", "via", router)
        config = self.sshd_config(2)
        config.write_text(config.read_text().replace("10.77.0.2", self.AWAY))
        subprocess.run(on(2, SSHD, "-f", config, "-E", self.folder / "sshd_away.log"), check=True)
        known = self.folder / "known"
        known.write_text(known.read_text().replace("10.77.0.2 ", f"{self.AWAY} "))

    def test_a_run_goes_over_the_router(self):
        before, out = traces(), self.folder / "out"
        words = ["--hosts", f"10.77.0.1:1,{self.AWAY}:1", "--ssh", self.ssh]
        wait_for(lambda: "ok" in self.ours("doctor", *words, code=None).stdout.split(f"10.77.0.1 to {self.AWAY}")[0].splitlines()[-1], "a link that is well")
        self.ours("run", self.small(convergence__max_steps=20, communication__timeout=5), *words, "--out", out)
        self.assertEqual(step_now(out), 20)
        self.expect_nothing_left(before)


@unittest.skipIf(why_not(), why_not())
class TwoMachines(MachineHosts):
    """As far as lockstep can tell: the second one says that it was started another time."""
    def setUp(self):
        super().setUp()
        self.machines[2].sh("echo 11111111-2222-3333-4444-555555555555 > /tmp/boot_id && mount --bind /tmp/boot_id /proc/sys/kernel/random/boot_id")

    def test_the_worker_lies_elsewhere_on_one_host_and_has_cores_of_its_own(self):
        self.machines[2].sh(f"mkdir /opt/there && mv {BIN}/lockstep* /opt/there/")
        out = self.folder / "out"
        words = ["run", self.small(convergence__max_epochs=100000, threads=len(os.sched_getaffinity(0))), "--ssh", self.ssh, "--out", out]
        hosts = self.config("10.77.0.1 slots=1\n10.77.0.2 slots=1\n", "hosts")
        self.assertIn(f"host 10.77.0.2: {BIN}/lockstep-worker is not there", self.ours(*words, "--hostfile", hosts, code=2).stderr)
        hosts.write_text("10.77.0.1 slots=1\n10.77.0.2 slots=1 worker=/opt/there/lockstep-worker\n")
        job = subprocess.Popen(on(1, LOCKSTEP, *words, "--hostfile", hosts), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.started.append(job)
        wait_for(lambda: step_now(out) > 3, "steps")
        workers = {pid: line for pid, line in processes().items() if line[1].split()[0].endswith("/lockstep-worker")}
        self.assertEqual(len(workers), 2, workers)
        for pid in workers:
            self.assertEqual(os.sched_getaffinity(pid), os.sched_getaffinity(0))
        run("stop", out)
        self.assertEqual(job.wait(60), 0, job.stderr.read())
        # A run's folder may be another's, and names no program.
        resume = ["run", "--resume", out, "--ssh", self.ssh, "--set", f"convergence.max_steps={step_now(out) + 10}"]
        said = self.ours(*resume, code=2).stderr
        self.assertIn(f"worker=/opt/there/lockstep-worker for 10.77.0.2; say --hostfile {hosts} again", said)
        self.ours(*resume, "--hostfile", hosts)

    def test_a_worker_of_another_build_is_refused_with_both_named(self):
        build = run("--version").stdout.split()[-1][:12]
        other = f"9{build[1:]}"
        self.machines[2].sh(f"sed -i 's/{build}/{other}/g' {BIN}/lockstep-worker")
        for hosts in ("10.77.0.1:1,10.77.0.2:1", "10.77.0.2:1,10.77.0.1:1"):
            said = self.ours("run", self.small(), "--hosts", hosts, "--ssh", self.ssh, "--out", self.folder / hosts[:9].replace(".", "-"), code=1).stderr
            self.assertRegex(said.splitlines()[-1], rf"rank [01] on \S+ was refused: this worker is build {re.escape(other)}\S*, the coordinator is build {re.escape(build)}")

    def test_a_killed_supervisor_leaves_nothing_on_any_host(self):
        before, out = traces(), self.folder / "out"
        words = ["run", self.small(convergence__max_epochs=100000), "--hosts", "10.77.0.1:1,10.77.0.2:1", "--ssh", self.ssh, "--out", out]
        job = subprocess.Popen(on(1, LOCKSTEP, *words), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.started.append(job)
        wait_for(lambda: step_now(out) > 3, "steps")
        scratch = self.machines[2].sh("ls -d /dev/shm/lockstep-run-*").split()
        self.assertEqual(len(scratch), 1)
        job.kill()
        job.wait()
        wait_for(lambda: not processes(), "no process of it", timeout=15)
        self.expect_nothing_left(before, timeout=15)
        wait_for(lambda: not self.machines[2].sh("ls -A /dev/shm").split(), "no file of it there", timeout=15)

    def test_a_host_that_is_cut_off_before_its_rank_has_joined_is_named(self):
        out, there = self.folder / "early", self.machines[2]
        words = ["run", self.small(communication__timeout=5), "--hosts", "10.77.0.1:1,10.77.0.2:1", "--ssh", self.ssh, "--out", out]
        job = subprocess.Popen(on(1, LOCKSTEP, *words), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.started.append(job)
        wait_for(lambda: "lockstep-worke" in there.sh("ps -eo comm"), "the worker there", every=0)
        run("lab", "cut", "--name", NAME, 2)
        self.assertEqual(job.wait(60), 1)  # by itself in 120 s
        self.assertRegex(job.stderr.read().splitlines()[-1], r"rank 1|10\.77\.0\.2")
        run("lab", "mend", "--name", NAME, 2)
        wait_for(lambda: not there.sh("ls -A /dev/shm").split(), "no file of it there", timeout=60)

    def before_its_daemon(self, command):
        """Has the second host do so when mpirun starts Open MPI's daemon there."""
        self.machines[2].sh(f"mkdir /opt/real && mv /usr/bin/orted /opt/real/ && printf '#!/bin/sh\\n{command}\\nexec /opt/real/orted \"$@\"\\n' > /usr/bin/orted"
                            " && chmod 755 /usr/bin/orted")

    def test_a_host_that_is_cut_off_before_its_daemon_has_connected_is_named(self):
        before, out, there = traces(), self.folder / "out", self.machines[2]
        self.before_its_daemon("touch /come; until [ -e /go ]; do sleep 0.1; done")
        words = ["run", self.small(communication__timeout=5), "--hosts", "10.77.0.1:1,10.77.0.2:1", "--ssh", self.ssh, "--out", out]
        job = subprocess.Popen(on(1, LOCKSTEP, *words), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.started.append(job)
        wait_for(lambda: there.sh("ls /come || :").split() == ["/come"], "the daemon there")
        run("lab", "cut", "--name", NAME, 2)
        there.sh("touch /go")
        self.assertEqual(job.wait(30), 1)  # by itself in 120 s, as long as ranks may take to join
        said = job.stderr.read()
        self.assertEqual(len(said.splitlines()), 1, said)
        self.assertRegex(said, r"host 10\.77\.0\.2 was lost before its ranks had joined: it gave no answer within 5s")
        self.expect_nothing_left(before, timeout=5)
        run("lab", "mend", "--name", NAME, 2)
        wait_for(lambda: not there.sh("ls -A /dev/shm").split(), "no file of it there", timeout=60)
        self.assertNotIn("orted", there.sh("ps -eo comm"))

    def test_a_host_that_answers_may_be_slow_to_join(self):
        out = self.folder / "out"
        self.before_its_daemon("sleep 20")
        self.ours("run", self.small(communication__timeout=5, convergence__max_steps=20), "--hosts", "10.77.0.1:1,10.77.0.2:1", "--ssh", self.ssh, "--out", out)
        self.assertEqual(step_now(out), 20)

    def cut(self, mended_at_once):
        before, out = traces(), self.folder / f"out-{mended_at_once}"
        words = ["run", self.small(convergence__max_epochs=100000, communication__timeout=5, checkpoint__every_steps=10), "--hosts", "10.77.0.1:1,10.77.0.2:1",
                 "--ssh", self.ssh, "--out", out]
        # Which sees no process of the other machine.
        alone = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", LOCKSTEP]
        job = subprocess.Popen(on(1, *alone, *words), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.started.append(job)
        wait_for(lambda: (checkpoint(out) / "MANIFEST.json").exists(), "a checkpoint")
        there = self.machines[2]
        self.assertIn("lockstep-worker", there.sh("ps -eo comm"))
        run("lab", "cut", "--name", NAME, 2)
        since = time.monotonic()
        self.assertEqual(job.wait(30), 1)
        self.assertLess(time.monotonic() - since, 5 + 5)
        if mended_at_once:
            run("lab", "mend", "--name", NAME, 2)
        self.assertRegex(job.stderr.read(), r"rank 1|10\.77\.0\.2")
        # Nobody can come and clean there, or nobody is left to: what is there ends by itself.
        wait_for(lambda: "lockstep-worker" not in there.sh("ps -eo comm"), "the worker there to end", timeout=15)
        wait_for(lambda: not there.sh("ls -A /dev/shm").split(), "no file of it there", timeout=30)
        self.assertNotIn("orted", there.sh("ps -eo comm"))
        self.expect_nothing_left(before, timeout=15)
        return out

    def test_a_cut_link_leaves_nothing_on_the_host_that_is_out_of_reach(self):
        out = self.cut(mended_at_once=False)
        run("lab", "mend", "--name", NAME, 2)
        self.ours("run", "--resume", out, "--ssh", self.ssh, "--set", f"convergence.max_steps={step_now(out) + 20}")

    def test_a_link_that_is_mended_as_the_run_ends_leaves_nothing_there(self):
        self.cut(mended_at_once=True)


if __name__ == "__main__":
    run_tests()
