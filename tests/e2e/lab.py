"""A cluster on this machine: `lockstep lab`, and training on it. As root."""
import argparse
import json
import os
import pathlib
import random
import shlex
import signal
import subprocess
import sys
import time
import unittest

from support import LOCKSTEP, ROOT, Case, checkpoint, family, listening, run, run_tests, start, status, step_now, traces, wait_for

sys.path.insert(0, str(ROOT / "tests" / "support"))

from lab import why_not  # noqa: E402

NAME = "e2e"
ROUNDS = 3  # --rounds N: of up and down, and of kills in the middle
CARRIER = """
import fcntl, socket, struct, sys, termios, time
def waiting(stream):  # there, and not read yet
    return struct.unpack("i", fcntl.ioctl(stream, termios.FIONREAD, bytes(4)))[0]
if sys.argv[1] == "receive":
    server = socket.create_server(("", 4747))
    # So little under way that no link's queue drops of it: what comes behind a lost segment counts only with it.
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
    print("listening", flush=True)
    stream, start, got, since = server.accept()[0], time.monotonic(), 0, None
    while time.monotonic() < start + float(sys.argv[2]):
        piece = len(stream.recv(1 << 20))
        if since is None and time.monotonic() > start + 0.3 * float(sys.argv[2]):
            since, got = time.monotonic(), -waiting(stream)  # the burst is through
        else:
            got += piece
    got += waiting(stream)
    print(got / (time.monotonic() - since))
else:
    stream = socket.create_connection((sys.argv[2], 4747), timeout=10)
    try:
        while True:
            stream.sendall(bytes(1 << 18))
    except OSError:
        pass
"""
# Of what a link carries at its rate, headers take their share: 66 bytes of 1514.
PAYLOAD = 1448 / 1514


def spaces():
    return {path.name for path in pathlib.Path("/run/netns").glob(f"lockstep-{NAME}*")}


def left():
    """What a lab could leave behind."""
    states = {str(path) for path in pathlib.Path("/run/lockstep-labs").glob(f"{NAME}*")}
    links = subprocess.run(["ip", "-br", "link"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return spaces() | states | {line.split()[0] for line in links.splitlines() if not line.startswith(("lo", "eth", "ifb", "docker", "br-", "veth"))}


def lab(what, *words, name=NAME, **options):
    return run("lab", what, "--name", name, *words, **options)


def on(host, *words):
    return [LOCKSTEP, "lab", "on", "--name", NAME, str(host), *map(str, words)]


def goodput(one, other, seconds=2.0):
    """Bytes a second of one TCP stream from one host to another."""
    receiver = subprocess.Popen(on(other, sys.executable, "-c", CARRIER, "receive", seconds), stdout=subprocess.PIPE, text=True)
    sender = None
    try:
        assert receiver.stdout.readline() == "listening\n"
        sender = subprocess.Popen(on(one, sys.executable, "-c", CARRIER, "send", f"10.77.0.{other}"))
        return float(receiver.communicate(timeout=seconds + 20)[0])
    finally:
        for process in filter(None, (sender, receiver)):
            process.kill()
            process.wait()


@unittest.skipIf(why_not(), why_not())
class Labs(Case):
    def setUp(self):
        super().setUp()
        lab("down")
        self.before = left()
        self.addCleanup(lab, "down")

    def test_links_have_the_rate_that_was_asked_for(self):
        for hosts, mbit in ((2, 200), (4, 100), (8, 500)):
            lab("up", "--hosts", hosts, "--rate", f"{mbit}mbit", "--per-host", "2:rate=50mbit")
            for one, other, expected in ((1, 2, 50), (1, hosts, 50 if hosts == 2 else mbit)):
                # A busy machine takes from it, and nothing adds to it.
                rate = max(goodput(one, other) * 8e-6 / PAYLOAD for _ in range(2))
                self.assertLessEqual(abs(rate - expected), 0.05 * expected, f"{hosts} hosts, {one} to {other}: {rate} mbit, not {expected}")
            lab("rate", "20mbit")
            self.assertLessEqual(abs(goodput(1, 2) * 8e-6 / PAYLOAD - 20), 1)
            lab("rate", "40mbit", 1)
            listed = run("lab", "list").stdout
            self.assertRegex(listed, rf"{NAME} +host1 +10\.77\.0\.1 +40Mbit")
            self.assertRegex(listed, r"host2 +10\.77\.0\.2 +20Mbit")
            lab("down")

    def test_what_went_to_another_namespace_ends_with_the_lab(self):
        lab("up", "--hosts", 2)
        elsewhere = subprocess.Popen(on(2, "unshare", "--net", "sh", "-c", "echo there; exec sleep 60"), stdout=subprocess.PIPE, text=True)
        self.addCleanup(elsewhere.stdout.close)
        self.addCleanup(elsewhere.wait)
        self.addCleanup(elsewhere.kill)
        self.assertEqual(elsewhere.stdout.readline(), "there\n")
        lab("down")
        self.assertEqual(elsewhere.wait(5), -signal.SIGKILL)

    def test_a_link_that_is_cut_carries_nothing_until_it_is_mended(self):
        lab("up", "--hosts", 2)
        ping = on(1, sys.executable, "-c", "import socket; socket.create_connection(('10.77.0.2', 9), timeout=0.5)")
        self.assertIn("Connection refused", subprocess.run(ping, stderr=subprocess.PIPE, text=True).stderr)
        lab("cut", 2)
        self.assertNotIn("Connection refused", subprocess.run(ping, stderr=subprocess.PIPE, text=True).stderr)
        lab("mend", 2)
        wait_for(lambda: "Connection refused" in subprocess.run(ping, stderr=subprocess.PIPE, text=True).stderr, "the link to carry again")

    def test_up_and_down_leave_nothing(self):
        for _ in range(ROUNDS):
            lab("up", "--hosts", 3, "--rate", "1gbit")
            stays = subprocess.Popen(on(2, "sleep", "300"))
            lab("down")
            self.assertEqual(left(), self.before)
            self.assertEqual(stays.wait(10), -signal.SIGKILL)

    def test_what_is_killed_in_the_middle_is_cleaned_by_the_next(self):
        chance = random.Random(7)
        for turn in range(ROUNDS):
            for what in (["up", "--hosts", 8, "--rate", "1gbit"], ["down"]):
                if what == ["down"]:
                    lab("up", "--hosts", 8)
                process = start("lab", what[0], "--name", NAME, *what[1:], stdout=subprocess.DEVNULL)
                time.sleep(chance.uniform(0, 0.25))  # anywhere in it
                process.kill()
                process.wait()
                process.stderr.close()
                if turn % 2 == 0:
                    lab("down")
                else:
                    run("lab", "up", "--name", f"{NAME}2", "--hosts", 1)  # another lab's
                    run("lab", "down", "--name", f"{NAME}2")
                    if spaces():  # it was not killed in the middle
                        lab("down")
                self.assertEqual(left(), self.before)

    def test_labs_that_are_made_at_once_are_all_there_and_those_killed_at_once_are_cleaned(self):
        names = [f"{NAME}{number}" for number in range(2, 6)]

        def at_once(what, *words):
            return [start("lab", what, "--name", name, *words, stdout=subprocess.DEVNULL) for name in names]

        def hosts_of(name):
            return sum(space.startswith(f"lockstep-{name}-") for space in spaces()) - 1  # but for the switch

        for _ in range(ROUNDS):
            for process in at_once("up", "--hosts", 3):
                said = process.communicate(timeout=60)[1]
                self.assertEqual(process.returncode, 0, said)
            self.assertEqual([hosts_of(name) for name in names], [3] * len(names))
            for process in at_once("down"):
                self.assertEqual(process.wait(60), 0, process.stderr.read())
                process.stderr.close()
            self.assertEqual(left(), self.before)
            killed = at_once("up", "--hosts", 40)
            wait_for(lambda: all(hosts_of(name) > 0 for name in names), "the middle of it")
            for process in killed:
                process.kill()
                process.communicate()
            self.assertLess(max(map(hosts_of, names)), 40)
            lab("up", "--hosts", 1)  # of its own
            self.assertEqual([hosts_of(name) for name in names], [-1] * len(names))
            lab("down")
            self.assertEqual(left(), self.before)

    def test_who_comes_while_a_lab_is_made_waits(self):
        up = start("lab", "up", "--name", NAME, "--hosts", 40, stdout=subprocess.DEVNULL)
        wait_for(spaces, "the middle of it")
        lab("down")
        self.assertEqual(up.wait(10), 0, up.stderr.read())
        up.stderr.close()
        self.assertEqual(left(), self.before)

    def test_what_is_asked_wrongly_is_said_and_changes_nothing(self):
        for words, said in ((["up", "--hosts", 0], "1 to 200 hosts"), (["up", "--hosts", 2, "--rate", "fast"], "'fast' is no rate"), (["up", "--hosts", 2, "--rate", "2000gbit"], "'2000gbit' is no rate"), (["up", "--hosts", 2, "--rate", "1bit"], "'1bit' is no rate"), (["up", "--hosts", 2, "--rate", "0.5kbit"], "'0.5kbit' is no rate"),
                            (["up", "--hosts", 2, "--per-host", "3:rate=1mbit"], "host 3"), (["up", "--hosts", 2, "--per-host", "1:speed=2"], "--per-host 1:speed=2"),
                            (["cut", 1], f"no lab '{NAME}'"), (["rate", "1gbit"], f"no lab '{NAME}'"), (["up"], "--hosts")):
            done = lab(*words, code=2)
            self.assertIn(said, done.stderr)
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
            self.assertEqual(left(), self.before)
        lab("up", "--hosts", 2)
        self.assertIn("already", lab("up", "--hosts", 2, code=2).stderr)
        self.assertIn("no host 3", lab("cut", 3, code=2).stderr)


@unittest.skipIf(why_not(), why_not())
class TrainingOnALab(Case):
    def setUp(self):
        super().setUp()
        lab("down")
        lab("up", "--hosts", 2, "--rate", "1gbit")
        self.addCleanup(lab, "down")
        self.before = traces()

    def test_the_same_parameters_as_on_one_machine(self):
        config = self.small(checkpoint__every_steps=20)
        run("run", config, "--workers", 2, "--out", self.folder / "here")
        lab("up", "--hosts", 2, "--rate", "1gbit", name="k")  # of a single letter, which Open MPI would lose
        self.addCleanup(lab, "down", name="k")
        run("run", config, "--workers", 2, "--lab=k", "--out", self.folder / "there")
        self.expect_same_training(self.folder / "here", self.folder / "there")
        self.expect_nothing_left(self.before)

    def test_hosts_can_be_chosen_from_it(self):
        words = ("run", self.small(convergence__max_steps=5), f"--lab={NAME}", "--out", self.folder / "some")
        self.assertIn("# on 10.77.0.2:2 over", run(*words, "--hosts", "10.77.0.2:2", "--dry-run").stdout)
        self.assertIn("; on 10.77.0.2:2 over", run(*words, "--hosts", "10.77.0.2:2").stdout)
        for command in ("run", "doctor"):
            self.assertIn("--ssh: is a command for --hosts", run(command, words[1], "--ssh", "ssh -p 2222", code=2).stderr)
        self.assertIn("--hosts: 10.77.0.3 is not in the lab", run(*words, "--hosts", "10.77.0.3", "--dry-run", code=2).stderr)

    def test_a_live_run_answers_from_outside_and_no_secret_lies_about(self):
        out = self.folder / "live"
        job = self.start("run", self.small(convergence__max_epochs=100000), "--workers", 2, f"--lab={NAME}", "--out", out)
        wait_for(lambda: step_now(out) > 3, "steps")
        self.assertEqual(status(out)["phase"], "training")
        coordinator = next(pid for pid, line in family(job.pid).items() if " serve " in line)
        bound = {address.split(":")[0][-8:] for address, _ in listening(coordinator)}
        self.assertEqual(bound, {"01004D0A"}, "10.77.0.1, in /proc's byte order")
        secret = json.loads(next(path for path in pathlib.Path("/dev/shm").glob("lockstep-run-*/credentials")).read_text())
        words = [secret["token"], secret["key"].splitlines()[1]]
        for line in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            try:
                text = line.read_text(errors="replace")
            except OSError:
                continue
            self.assertFalse([word for word in words if word in text], text)
        run("stop", out)
        self.assertEqual(job.wait(60), 0)
        for path in out.rglob("*"):
            if path.is_file():
                self.assertFalse([word for word in words if word.encode() in path.read_bytes()], path)
        self.expect_nothing_left(self.before)

    def test_a_cut_link_ends_the_run_with_who_was_lost_and_a_resume_goes_on(self):
        out = self.folder / "cut"
        config = self.small(convergence__max_epochs=100000, communication__timeout=5, checkpoint__every_steps=10)
        job = self.start("run", config, "--workers", 2, f"--lab={NAME}", "--out", out)
        wait_for(lambda: (checkpoint(out) / "MANIFEST.json").exists(), "a checkpoint")
        lab("cut", 2)
        since = time.monotonic()
        self.assertEqual(job.wait(30), 1)
        self.assertLess(time.monotonic() - since, 5 + 5)
        said = [line for line in job.stderr.read().splitlines() if line and not line.startswith("lockstep-worker:")]
        self.assertRegex(said[0], r"rank 1|worker 1|host2", said)
        lab("mend", 2)
        self.expect_nothing_left(self.before, timeout=10)
        whole = step_now(out) + 20
        done = run("run", "--resume", out, "--set", f"convergence.max_steps={whole}")
        self.assertIn("2 workers", done.stdout)
        run("run", config, "--workers", 2, "--out", self.folder / "whole", "--set", f"convergence.max_steps={whole}")
        self.expect_same_accuracy(self.folder / "whole", out)

    def test_a_link_that_is_cut_before_the_ranks_have_joined_is_named(self):
        lab("cut", 2)
        done = run("run", self.small(communication__timeout=5), "--workers", 2, f"--lab={NAME}", "--out", self.folder / "out", code=1, timeout=40)
        (said,) = [line for line in done.stderr.splitlines() if "was lost" in line]
        self.assertRegex(said, r"host 10\.\S+\.2 was lost before its ranks had joined: it gave no answer within 5s")
        lab("mend", 2)
        self.expect_nothing_left(self.before, timeout=10)


@unittest.skipIf(why_not(), why_not())
class Doctor(Case):
    def setUp(self):
        super().setUp()
        lab("down")
        lab("up", "--hosts", 3, "--rate", "100mbit")
        self.addCleanup(lab, "down")

    def complaints(self, *words, code):
        for option, value in (("--workers", 1), ("--out", self.folder)):
            words = words if option in words else (*words, option, value)
        checks = json.loads(run("doctor", f"--lab={NAME}", "--json", *words, code=None).stdout)
        # What of this machine's time goes to others is not the links' doing.
        wrong = [check for check in checks if not check["ok"] and check["check"] != "processor"]
        self.assertEqual(bool(wrong), code != 0, wrong)
        return wrong

    def test_links_alike_get_no_complaint_and_a_slow_one_is_named(self):
        self.complaints(code=0)
        done = run("doctor", f"--lab={NAME}", "--workers", 1, "--out", self.folder, code=None)
        shown = done.stdout
        wrong = [line for line in shown.splitlines() if line.startswith("WRONG")]
        self.assertEqual([line for line in wrong if " processor " not in line], [])
        self.assertEqual(done.returncode, 1 if wrong else 0)
        self.assertEqual(len([line for line in shown.splitlines() if " link " in line]), 3, shown)
        lab("rate", "20mbit", 3)
        wrong = self.complaints(code=1)
        self.assertEqual({check["check"] for check in wrong}, {"link"})
        self.assertTrue(all("10.77.0.3" in check["said"] for check in wrong), wrong)
        self.mend(wrong)
        self.complaints(code=0)

    def mend(self, wrong):
        """By what is printed; of one host it is the same however many of its links are wrong."""
        (mend,) = {check["mend"] for check in wrong}
        subprocess.run(["sh", "-c", mend], check=True)

    def test_a_host_that_others_cannot_reach_is_named(self):
        shut = ["iptables", "-A", "INPUT", "-p", "tcp", "-j", "DROP"]
        for breaks in (lambda: lab("cut", 2), lambda: subprocess.run(on(2, *shut), check=True)):
            breaks()
            wrong = self.complaints(code=1)
            self.assertEqual({check["check"] for check in wrong}, {"link"})
            self.assertTrue(all("10.77.0.2" in check["said"] for check in wrong), wrong)
            self.mend(wrong)
            self.complaints(code=0)

    def test_its_hosts_have_this_machines_cores_and_disk_together(self):
        cores = len(os.sched_getaffinity(0))
        (wrong,) = self.complaints("--workers", 2 * cores, code=1)
        self.assertEqual(wrong["check"], "cores", wrong)
        option, value = wrong["mend"].split()
        self.assertEqual((option, value), ("--workers", str(cores)))
        self.complaints(option, value, code=0)
        small = self.folder / "small"
        small.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "none", small], check=True)
        self.addCleanup(subprocess.run, ["umount", small], check=True)
        words = (self.small(model__hidden="[1024]"), "--out", small / "run")
        (wrong,) = self.complaints(*words, code=1)
        self.assertEqual(wrong["check"], "disk", wrong)
        self.complaints(words[0], *shlex.split(wrong["mend"]), code=0)


def main():
    global ROUNDS
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments, rest = parser.parse_known_args()
    ROUNDS = arguments.rounds
    run_tests([sys.argv[0], *rest])


if __name__ == "__main__":
    main()
