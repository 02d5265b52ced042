"""`lockstep doctor` over hosts with sshd: each thing that it looks at is broken on purpose, found, and mended by what it prints. Most
of the hosts are machines of their own (tests/support/machine.py), so that packages, limits and clocks can be broken for real. As root."""
import glob
import json
import os
import pathlib
import pty
import re
import select
import shlex
import shutil
import subprocess
import sys
import time
import unittest

from sshd_hosts import NAME, MachineHosts, on, why_not
from support import BIN, LOCKSTEP, ROOT, run, run_tests, wait_for

FAKETIME = next(iter(glob.glob("/usr/lib/*/faketime/libfaketime.so.1")), None)
CLOCK = "/etc/lockstep-test-clock"  # what the machines' clocks are ahead
CAP_SYS_RESOURCE = 24
# How much of this machine's time goes to others is not the same from one minute to the next.
STEADY = "cp /proc/stat /tmp/lockstep-test-stat.$$ && mount --bind /tmp/lockstep-test-stat.$$ /proc/stat && rm /tmp/lockstep-test-stat.$$"
SLOW_SYNC = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int fsync(int fd) {
  char link[64], path[4096] = "";
  snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
  if (readlink(link, path, sizeof(path) - 1) > 0 && strncmp(path, getenv("SLOW_SYNC"), strlen(getenv("SLOW_SYNC"))) == 0) usleep(300000);
  return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}
"""


def host(number):
    return f"10.77.0.{number}"


def tools():
    if why_not():
        return why_not()
    missing = [package for package, there in (("faketime", FAKETIME), ("dpkg-repack", shutil.which("dpkg-repack")), ("dpkg-dev", shutil.which("dpkg-scanpackages")),
                                              ("iptables", shutil.which("iptables")), ("libcap2-bin", shutil.which("capsh"))) if not there]
    return f"needs Debian's {', '.join(missing)}" if missing else None


class Examined(MachineHosts):
    HOSTS, MACHINES = (1, 2, 3), (2, 3)
    OURS = ["unshare", "--mount", "sh", "-c", f'{STEADY}; exec "$@"', "sh", LOCKSTEP]

    def sshd_config(self, number):
        config = super().sshd_config(number)
        if number in self.MACHINES:
            config.write_text(config.read_text() + f"SetEnv LD_PRELOAD={FAKETIME} FAKETIME_TIMESTAMP_FILE={CLOCK} FAKETIME_NO_CACHE=1 "
                                                   "FAKETIME_DONT_FAKE_MONOTONIC=1\n")
        return config

    def setUp(self):
        self.typed = []  # before the doctor, in its shell
        super().setUp()

    def here(self, *words):
        shell = ["sh", "-c", " && ".join([*(f"{one} >&2" for one in self.typed), 'exec "$@"']), "sh", *map(str, words)]
        return self.machines[1].words(shlex.join(shell)) if 1 in self.machines else on(1, *shell)

    def serve(self, number):
        super().serve(number)
        if number in self.MACHINES:  # a machine that keeps its clock by NTP has its own program do so
            self.machines[number].sh(f"echo +0s > {CLOCK}; printf '#!/bin/sh\\n[ \"$*\" = \"set-ntp true\" ] && echo +0s > {CLOCK}\\n' > "
                                     f"/usr/local/bin/timedatectl; chmod 755 /usr/local/bin/timedatectl; {STEADY}")

    def words(self, **changed):
        """Options to their values; of each setting one of its own."""
        words = {"--hosts": ",".join(f"{host(number)}:1" for number in self.HOSTS), "--ssh": self.ssh, "--out": self.folder / "out", **changed}
        return {key: str(value) for key, value in words.items()}

    def doctor(self, words, config=None, env=None):
        done = self.ours("doctor", *filter(None, [config]), *(word for key, value in words.items() for word in (key.split()[0], value)), "--json", code=None, env=env)
        self.assertTrue(done.stdout.startswith("["), done.stderr)
        checks = json.loads(done.stdout)
        self.assertEqual(done.returncode, 0 if all(check["ok"] for check in checks) else 1)
        return [check for check in checks if not check["ok"]]

    def mend(self, check, words):
        """What is printed, typed where it says; words that begin with '--' are put into the command."""
        mend = check["mend"]
        if mend.startswith("--"):
            key, value = shlex.split(mend)
            words[f"--set {value.split('=')[0]}" if key == "--set" else key] = value
            return
        if re.match("(unset|export) ", mend) or "$$" in mend:  # of the shell itself
            self.typed.append(mend)
            return
        at = next((machine for number, machine in self.machines.items() if check["mend_on"] == host(number)), None)
        command = at.words(mend) if at else self.here("sh", "-c", mend)
        done = subprocess.run(command, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, f"{mend}: {done.stdout}")

    def found_and_mended(self, expected, words, config=None, env=None):
        """`expected`: (host, check) of every complaint, and of no other."""
        wrong = self.doctor(words, config, env)
        self.assertEqual(sorted((check["host"], check["check"]) for check in wrong), sorted(expected), json.dumps(wrong, indent=1))
        for check in wrong:
            for key in ("said", "costs", "mend"):
                self.assertTrue(check[key], check)
            self.mend(check, words)
        self.assertEqual(self.doctor(words, config, env), [])

    def with_repository(self, *packages):
        """What makes one of these packages, as this machine has them, a machine's only one."""
        repository = self.folder / "repository"
        repository.mkdir()
        for package in packages:
            subprocess.run(["dpkg-repack", "--deb-option=-Znone", package], cwd=repository, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        (repository / "Packages").write_text(subprocess.run(["dpkg-scanpackages", "."], cwd=repository, check=True, stdout=subprocess.PIPE,
                                                            stderr=subprocess.DEVNULL, text=True).stdout)
        return ("rm -rf /etc/apt/sources.list /etc/apt/sources.list.d; echo 'APT::Sandbox::User \"root\";' > /etc/apt/apt.conf.d/99test; "
                f"echo 'deb [trusted=yes] file:{repository} ./' > /etc/apt/sources.list && apt-get update -qq")

    def of_version(self, package, version):
        """What gives a machine that version of a package, and a repository that has the right one."""
        return (f"{self.with_repository(package)} && "
                f"sed -i '/^Package: {package}$/,/^$/ s/^Version: .*/Version: {version}/' /var/lib/dpkg/status")

    def answer(self, command, answers):
        """Types a command at a terminal, and an answer wherever it asks."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.execvp(command[0], list(map(str, command)))
        said, seen, until = "", 0, time.monotonic() + 60
        while time.monotonic() < until and select.select([terminal], [], [], until - time.monotonic())[0]:
            try:
                said += os.read(terminal, 4096).decode(errors="replace")
            except OSError:
                break  # it has ended
            asked = re.search("|".join(answers), said[seen:])
            if asked:
                seen += asked.end()
                os.write(terminal, (next(word for question, word in answers.items() if re.search(question, asked[0])) + "\n").encode())
        os.close(terminal)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0, said)


@unittest.skipIf(tools(), tools())
class Doctor(Examined):
    def test_another_libtorch(self):
        self.machines[2].sh(f"{self.of_version('libtorch1.13', '1.19.0-1')} && "
                            "LC_ALL=C sed -i 's/1\\.13f/1.19f/g' /usr/lib/*/libtorch_cpu.so.1.13.*")  # it is in its code, by pieces
        words = self.words()
        (wrong,) = self.doctor(words)
        self.assertIn("1.19.0 (1.19.0-1)", wrong["said"])
        self.found_and_mended([("", "LibTorch")], words)

    def test_every_thing_on_a_host_is_found_and_mended(self):
        machine = self.machines[2]
        there, words = host(2), self.words(**{"--hosts": f"{host(1)}:1,{host(2)}:2,{host(3)}:1"})
        self.assertEqual(self.doctor(words), [], "healthy machines")

        blas = glob.glob("/usr/lib/*/blas/libblas.so.3")[0]
        build = run("--version").stdout.split()[-1][:12]
        fake = "#!/bin/sh\\necho mpirun \\(Open MPI\\) 9.9.9\\n"
        breaks = {
            (there, "BLAS"): f"update-alternatives --set libblas.so.3-{blas.split('/')[3]} {blas}",
            (there, "cores"): "taskset -apc 0 $(pgrep -o -x sshd)",
            (there, "processor"): "cp -r /sys/devices/system/cpu/cpu0/topology /tmp/topology && mount -t tmpfs own /sys/devices/system/cpu/cpu0 && "
                                  "cp -r /tmp/topology /sys/devices/system/cpu/cpu0/ && mkdir /sys/devices/system/cpu/cpu0/cpufreq && "
                                  "echo powersave > /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
            (there, "/dev/shm"): "mount -o remount,size=1m /dev/shm",
            (there, "ports"): "sysctl -w net.ipv4.ip_local_port_range='60000 60100'",
            (there, "strays"): "cp /bin/sleep /tmp/lockstep-worker && (setsid /tmp/lockstep-worker 600 >/dev/null 2>&1 &)",
            (there, "clock"): f"echo +5s > {CLOCK}",
            ("", "lockstep"): f"sed -i 's/{build}/9{build[1:]}/' {BIN}/lockstep",
            ("", "MPI"): f"{self.of_version('openmpi-bin', '0.1-1')} && printf '{fake}' > /usr/bin/mpirun.openmpi",
        }
        for command in breaks.values():
            machine.sh(command)
        self.found_and_mended(breaks, words)

    def test_few_open_files(self):
        self.machines[3].sh("prlimit --pid $(pgrep -o -x sshd) --nofile=256:")
        self.assertEqual(self.doctor(self.words()), [], "programs raise the soft limit by themselves")
        self.machines[2].sh("prlimit --pid $(pgrep -o -x sshd) --nofile=256:256")
        words = self.words()
        (wrong,) = self.doctor(words)
        self.assertEqual((wrong["host"], wrong["check"]), (host(2), "limits"))
        if not int(re.search(r"CapEff:\s*(\S+)", pathlib.Path("/proc/self/status").read_text())[1], 16) >> CAP_SYS_RESOURCE & 1:
            self.skipTest("found; not mended, since root may raise no limit on this machine (it lacks CAP_SYS_RESOURCE)")
        self.found_and_mended([(host(2), "limits")], words)

    def test_limits_that_a_login_shell_sets(self):
        for number, limit in ((2, "fsize=1000000"), (3, "as=1000000000")):
            self.machines[number].sh(f"prlimit --pid $(pgrep -o -x sshd) --{limit}:")
        self.found_and_mended([(host(2), "limits"), (host(3), "limits")], self.words())
        self.machines[2].sh("prlimit --pid $(pgrep -o -x sshd) --stack=200000:")
        self.machines[3].sh("mount -o remount,nr_inodes=20 /dev/shm")
        self.found_and_mended([(host(2), "limits"), (host(3), "/dev/shm")], self.words())

        self.machines[2].sh("prlimit --pid $(pgrep -o -x sshd) --data=1000000000:")
        self.found_and_mended([(host(2), "limits")], self.words())

    def test_hosts_that_cannot_be_reached_are_left_out(self):
        words = self.words(**{"--hosts": f"{host(1)}:1,no-such-host.invalid:1,{host(3)}:1"})
        self.found_and_mended([("no-such-host.invalid", "name")], words)
        self.machines[2].sh("iptables -A INPUT -p tcp --dport 22 -j REJECT")
        words = self.words()
        self.found_and_mended([(host(2), "ssh")], words)
        self.assertEqual(words["--hosts"], f"{host(1)}:1,{host(3)}:1")

    def test_a_key_that_others_can_read(self):
        (self.folder / "user").chmod(0o644)
        self.found_and_mended([(host(2), "ssh"), (host(3), "ssh")], self.words())

    def test_a_path_to_libraries_that_brings_the_reference_blas(self):
        folder = pathlib.Path(glob.glob("/usr/lib/*/blas/libblas.so.3")[0]).parent
        self.typed = [f"export LD_LIBRARY_PATH={folder}"]
        for number, line in ((2, "1i"), (3, "$a")):
            self.machines[number].sh(f"sed -i '{line}export LD_LIBRARY_PATH={folder}' /root/.bashrc")
        self.found_and_mended([(host(number), "BLAS") for number in self.HOSTS], self.words())
        self.assertEqual(self.typed[1:], ["unset LD_LIBRARY_PATH"])

    def test_links_that_are_shut_or_slow(self):
        self.machines[2].sh("iptables -A INPUT -p tcp ! --dport 22 -j DROP")
        self.found_and_mended([(host(2), "link")] * 2, self.words())
        run("lab", "rate", "--name", NAME, "50mbit", 2)
        words = self.words()
        self.found_and_mended([(host(2), "link")] * 2, words)
        self.assertEqual(words["--hosts"], f"{host(1)}:1,{host(3)}:1")
        run("lab", "rate", "--name", NAME, "400kbit", 2)
        wrong = self.doctor(self.words())
        self.assertEqual([(check["host"], check["check"]) for check in wrong], [(host(2), "link")] * 2, wrong)
        for check in wrong:
            rate = float(re.search(r": ([0-9.]+) MB/s", check["said"])[1])
            self.assertLess(abs(rate - 0.0475), 0.015, check)  # of 0.05 MB/s, what headers leave

    def test_hosts_that_let_nothing_out(self):
        for at in (1, 2):
            shut = "iptables -A OUTPUT -p tcp --sport 1024: --dport 1024: -j DROP"
            self.machines[2].sh(shut) if at == 2 else subprocess.run(on(1, *shut.split()), check=True)
            self.found_and_mended([(host(at), "link")] * 2, self.words())
        subprocess.run(on(1, "sh", "-c", f"iptables -F INPUT; iptables -F OUTPUT; {shut}"), check=True)
        self.found_and_mended([(host(2), "link")], self.words(**{"--hosts": f"{host(1)}:1,{host(2)}:1"}))  # or the other one, who knows

    def test_links_that_are_wrong_in_one_direction(self):
        for rule in ("-i lo -j ACCEPT", "-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT", "-p tcp --dport 22 -j ACCEPT", "-j DROP"):
            subprocess.run(on(1, "iptables", "-A", "INPUT", *rule.split()), check=True)
        self.found_and_mended([(host(1), "link")] * 2, self.words())
        towards = ["tc", "-n", f"lockstep-{NAME}-0", "qdisc", "replace", "dev", "p1", "root", "handle", "1:", "tbf", "rate", "20mbit", "burst", "256kb", "latency", "50ms"]
        subprocess.run(towards, check=True)
        wrong = self.doctor(self.words())
        self.assertEqual(sorted(check["said"].split(":")[0] for check in wrong), [f"{host(number)} to {host(1)}" for number in (2, 3)], wrong)

    def test_a_worker_program_that_is_missing_or_of_another_build(self):
        build = run("--version").stdout.split()[-1][:12]
        self.machines[2].sh(f"rm {BIN}/lockstep-worker")
        self.machines[3].sh(f"sed -i 's/{build}/9{build[1:]}/g' {BIN}/lockstep-worker")
        self.found_and_mended([(host(2), "lockstep-worker"), (host(3), "lockstep-worker")], self.words())

    def test_a_host_that_was_set_up_anew_has_another_key(self):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / "anew"], check=True)
        config = self.folder / "sshd_config_2"
        config.write_text(config.read_text().replace(f"HostKey {self.folder}/host", f"HostKey {self.folder}/anew"))
        self.machines[2].sh("kill -HUP $(pgrep -o -x sshd)")
        self.await_sshd(2)
        (wrong,) = wait_for(lambda: self.doctor(self.words()), "sshd with its other key")
        self.assertEqual((wrong["host"], wrong["check"]), (host(2), "ssh"))
        self.assertIn("its key is not the one that is known", wrong["said"])
        yes = self.config("#!/bin/sh\necho yes\n", "yes")
        yes.chmod(0o700)
        typed = subprocess.run(on(1, "sh", "-c", wrong["mend"]), env={**os.environ, "SSH_ASKPASS": str(yes), "SSH_ASKPASS_REQUIRE": "force"},
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
        self.assertEqual(typed.returncode, 0, typed.stdout)
        self.assertEqual(self.doctor(self.words()), [])

    def test_what_settings_mend(self):
        config = self.small(data__batch_size=100000, threads=8)
        small = self.folder / "small"
        small.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "small", small], check=True)
        self.addCleanup(subprocess.run, ["umount", small], check=True)
        self.machines[3].sh("sed 's/^MemAvailable:.*/MemAvailable: 50000 kB/' /proc/meminfo > /tmp/meminfo && mount --bind /tmp/meminfo /proc/meminfo")
        words = self.words(**{"--out": small / "run"})
        self.found_and_mended([(host(1), "disk"), (host(3), "memory"), *((host(number), "cores") for number in self.HOSTS)], words, config)
        self.assertEqual(words["--set threads"], f"threads={len(os.sched_getaffinity(0))}")

        subprocess.run(["mount", "-o", "remount,ro", small], check=True)
        words = self.words(**{"--out": small})
        self.found_and_mended([(host(1), "disk")], words)
        self.assertNotIn("small", words["--out"])

        cores = len(os.sched_getaffinity(0))
        words = {"--out": str(self.folder / "out"), "--workers": str(cores + 1)}
        self.found_and_mended([("host1", "cores")], words)
        self.assertEqual(words["--workers"], str(cores))

    def test_a_disk_that_syncs_slowly(self):
        source, shim = self.folder / "slow.c", self.folder / "slow.so"
        source.write_text(SLOW_SYNC)
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", shim, source, "-ldl"], check=True)
        slow = self.folder / "disk"
        slow.mkdir()
        words = {"--out": str(slow / "run"), "--workers": "1"}
        self.found_and_mended([("host1", "disk")], words, env={"LD_PRELOAD": str(shim), "SLOW_SYNC": str(slow)})

    def test_a_host_whose_time_goes_to_others_is_left_out(self):
        self.machines[2].sh("umount /proc/stat && cp /proc/stat /tmp/stat && mount --bind /tmp/stat /proc/stat && (setsid sh -c "
                            "'i=0; while :; do i=$((i+10)); echo \"cpu $((i*4)) 0 0 0 0 0 0 $i 0 0\" > /tmp/stat; sleep 0.01; done' >/dev/null 2>&1 &)")
        words = self.words()
        self.found_and_mended([(host(2), "processor")], words)
        self.assertEqual(words["--hosts"], f"{host(1)}:1,{host(3)}:1")

    def test_a_host_that_asks_for_a_password_or_lacks_the_program(self):
        machine = self.machines[2]
        # A password, and keys of its own: as a machine is that nobody has been to yet.
        config = self.folder / "sshd_config_2"
        config.write_text(config.read_text().replace("PasswordAuthentication no", "PasswordAuthentication yes").replace(f"{self.folder}/authorized", ".ssh/authorized_keys"))
        machine.sh("echo root:lockstep | chpasswd; rm -rf /root/.ssh; kill -HUP $(pgrep -o -x sshd)")
        self.await_sshd(2)
        keys = self.folder / "home" / ".ssh"
        keys.mkdir(parents=True)
        for suffix in ("", ".pub"):
            shutil.copy(self.folder / f"user{suffix}", keys / f"id_ed25519{suffix}")
        password = self.config("#!/bin/sh\necho lockstep\n", "password")
        password.chmod(0o700)
        wrong = wait_for(lambda: self.doctor(self.words(), env={"HOME": keys.parent}), "sshd with its other settings")
        self.assertEqual([(check["host"], check["check"]) for check in wrong], [(host(2), "ssh")], wrong)
        typed = subprocess.run(on(1, "sh", "-c", wrong[0]["mend"]), env={**os.environ, "HOME": str(keys.parent), "SSH_ASKPASS": str(password), "SSH_ASKPASS_REQUIRE": "force"},
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
        self.assertEqual(typed.returncode, 0, typed.stdout)
        self.assertEqual(self.doctor(self.words()), [])
        machine.sh(f"rm -rf {BIN}")
        self.found_and_mended([(host(2), "lockstep")], self.words())

    def test_a_run_says_at_its_start_what_is_wrong_and_goes_on(self):
        self.machines[2].sh("mount -o remount,size=60m /dev/shm")
        done = self.ours("run", self.small(convergence__max_epochs=20), "--hosts", f"{host(1)}:1,{host(2)}:1", "--ssh", self.ssh, "--out", self.folder / "run")
        said = [line for line in done.stdout.splitlines() + done.stderr.splitlines() if "doctor: " in line]
        self.assertEqual(len(said), 1, done.stdout + done.stderr)
        self.assertRegex(said[0], rf"doctor: {host(2)}: /dev/shm: .*mend, on {host(2)}: mount -o remount,size=")


@unittest.skipIf(tools(), tools())
class DoctorOfMore(Examined):
    """What is seldom wrong; at night."""

    def test_limits_and_cores_of_this_shell(self):
        cores = len(os.sched_getaffinity(0))
        self.typed = ["taskset -apc 0 $$", "ulimit -S -d 1000000"]
        self.found_and_mended([("host1", "cores"), ("host1", "limits")], {"--out": str(self.folder / "out"), "--workers": str(cores)})
        self.assertEqual(len(self.typed), 4, self.typed)

    def test_few_processes_of_a_user_who_is_not_root(self):
        machine = self.machines[2]
        self.ssh_config.write_text(f"Host {host(2)}\n User tester\n{self.ssh_config.read_text()}")
        # Whoever types it is root already.
        machine.sh(f"chmod 755 {self.folder} && useradd -m -s /bin/bash -p '*' tester && printf '#!/bin/sh\\nexec \"$@\"\\n' > /usr/local/bin/sudo && chmod 755 /usr/local/bin/sudo && "
                   "prlimit --pid $(pgrep -o -x sshd) --nproc=500:")
        words = self.words()
        (wrong,) = self.doctor(words)
        self.assertRegex(wrong["mend"], "^sudo prlimit .* --nproc=")
        self.found_and_mended([(host(2), "limits")], words)

    def test_few_cores_of_a_control_group(self):
        group = pathlib.Path(f"/sys/fs/cgroup/cpu/lockstep-test-{os.getpid()}")
        try:
            group.mkdir()
            self.addCleanup(wait_for, lambda: self.dissolve(group), "the control group's end")
            (group / "cpu.cfs_quota_us").write_text("100000")
        except OSError as error:
            self.skipTest(f"this machine lets nobody make a control group of its processors (version 1): {error}")
        (group / "cgroup.procs").write_text(self.machines[2].pid)
        words = self.words(**{"--hosts": f"{host(1)}:1,{host(2)}:2,{host(3)}:1"})
        self.found_and_mended([(host(2), "cores")], words)
        self.assertEqual(words["--hosts"], f"{host(1)}:1,{host(2)}:1,{host(3)}:1")

    def dissolve(self, group):
        for pid in (group / "cgroup.procs").read_text().split():
            try:
                (group.parent / "cgroup.procs").write_text(pid)
            except OSError:
                pass  # it has ended
        try:
            group.rmdir()
        except OSError:
            return False
        return True

    def test_packages_that_are_missing(self):
        repository = self.with_repository("libtorch1.13", "libopenblas0-pthread")
        for number, package in ((2, "libtorch1.13"), (3, "libopenblas0-pthread")):
            self.machines[number].sh(f"{repository} && dpkg --purge --force-depends {package}")
        self.found_and_mended([(host(2), "BLAS"), (host(3), "BLAS")], self.words())

    def test_an_mpirun_from_elsewhere(self):
        fake = "printf '#!/bin/sh\\necho \"%s\"\\n' '{}' > {} && chmod 755 {}"
        for number, version, path, more in ((2, "mpirun (Open MPI) 5.0.3", "/usr/local/bin/mpirun", "true"),
                                            (3, "HYDRA build details:", "/usr/bin/mpirun.mpich",
                                             "update-alternatives --install /usr/bin/mpirun mpirun /usr/bin/mpirun.mpich 90 && "
                                             "update-alternatives --set mpirun /usr/bin/mpirun.mpich")):
            self.machines[number].sh(f"{fake.format(version, path, path)} && {more}")
        self.found_and_mended([("", "MPI")], self.words())
        here = self.folder / "opt"
        here.mkdir()
        subprocess.run(["sh", "-c", fake.format("mpirun (Open MPI) 5.0.3", here / "mpirun", here / "mpirun")], check=True)
        self.typed = [f"export PATH={here}:$PATH"]
        self.found_and_mended([("", "MPI")], self.words())
        self.assertEqual(self.typed[1:], ["export PATH=/usr/bin:$PATH"])

    def test_a_daemon_that_nobody_leads(self):
        self.machines[2].sh("cp /bin/sleep /tmp/orted && (setsid /tmp/orted 600 >/dev/null 2>&1 &) && "
                            "awk '{print $1 + 600, $2}' /proc/uptime > /tmp/uptime && mount --bind /tmp/uptime /proc/uptime")
        self.found_and_mended([(host(2), "strays")], self.words())

    def test_little_shared_memory_of_a_container(self):
        config = self.folder / "sshd_config_2"
        config.write_text(config.read_text() + 'ForceCommand capsh --drop=cap_sys_admin -- -c "$SSH_ORIGINAL_COMMAND"\n')
        machine = self.machines[2]
        machine.sh("touch /.dockerenv && mount -o remount,size=1m /dev/shm && kill -HUP $(pgrep -o -x sshd)")
        self.await_sshd(2)
        wrong = wait_for(lambda: self.doctor(self.words()), "sshd with its other settings")
        self.assertEqual([(check["host"], check["check"]) for check in wrong], [(host(2), "/dev/shm")], wrong)
        size = re.fullmatch(r"docker run --shm-size=(\d+) \.\.\.", wrong[0]["mend"])[1]
        machine.sh(f"mount -o remount,size={size} /dev/shm")  # as the container would have it that is run so
        self.assertEqual(self.doctor(self.words()), [])

    def test_a_link_that_is_far(self):
        switch = f"lockstep-{NAME}-0"
        delay = subprocess.Popen(["ip", "netns", "exec", switch, sys.executable, ROOT / "tests" / "support" / "delay.py", "p2", "0.04"], stdout=subprocess.PIPE, text=True)
        self.addCleanup(delay.communicate)
        self.addCleanup(delay.kill)
        self.assertEqual(delay.stdout.readline(), "ready\n")
        words = self.words()
        for check in self.doctor(words):
            latency, others = map(float, re.search(r", (\d+) us; others have (\d+) us", check["said"]).groups())
            self.assertLess(abs(latency - 40e3), 10e3, check)
            self.assertLess(others, 5e3, check)
        self.found_and_mended([(host(2), "link")] * 2, words)
        self.assertEqual(words["--hosts"], f"{host(1)}:1,{host(3)}:1")
        delay.kill()
        subprocess.run(["ip", "-n", switch, "link", "set", "p2", "master", "switch"], check=True)
        self.assertEqual(self.doctor(self.words()), [])

    def test_a_worker_program_that_is_missing_here(self):
        alone = self.folder / "alone"
        alone.mkdir()
        shutil.copy(LOCKSTEP, alone)
        self.OURS = [*self.OURS[:-1], str(alone / "lockstep")]
        self.typed = ["export PATH=/usr/sbin:/usr/bin:/sbin:/bin"]  # without one that whoever runs this has there
        (wrong,) = self.doctor({"--out": str(self.folder / "out"), "--workers": "1"})
        self.assertEqual(wrong["check"], "lockstep-worker")
        self.assertEqual(wrong["mend"], f"LOCKSTEP_WORKER=PATH {alone}/lockstep ..., or install it anew")
        words = {"--out": str(self.folder / "out"), "--workers": "1"}
        self.assertEqual(self.doctor(words, env={"LOCKSTEP_WORKER": f"{BIN}/lockstep-worker"}), [])
        build, other = run("--version").stdout.split()[-1][:12], alone / "lockstep-worker"
        other.write_bytes((BIN / "lockstep-worker").read_bytes().replace(build.encode(), f"9{build[1:]}".encode()))
        other.chmod(0o755)
        (wrong,) = self.doctor(words)
        self.assertEqual((wrong["check"], wrong["mend"]), ("lockstep-worker", "install both from one build"))
        shutil.copy(BIN / "lockstep-worker", other)
        self.assertEqual(self.doctor(words), [])

    def test_little_memory(self):
        def has(kilobytes):
            self.machines[3].sh(f"sed 's/^MemAvailable:.*/MemAvailable: {int(kilobytes)} kB/' /tmp/all > /tmp/meminfo")

        def needs(config):  # kB, of a worker
            has(1000)
            (wrong,) = self.doctor(self.words(), config)
            number, unit = re.search(r"the workers need ([0-9.]+) (.)B", wrong["said"]).groups()
            return float(number) * {"M": 1e3, "G": 1e6}[unit]

        self.machines[3].sh("cp /proc/meminfo /tmp/all && cp /tmp/all /tmp/meminfo && mount --bind /tmp/meminfo /proc/meminfo")
        small = needs(self.small())
        has(0.5 * small)
        words = self.words()
        self.found_and_mended([(host(3), "memory")], words, self.small())
        self.assertEqual(words["--hosts"], f"{host(1)}:1,{host(2)}:1")
        has(1.5 * small)
        words = self.words(**{"--hosts": f"{host(1)}:1,{host(2)}:1,{host(3)}:2"})
        self.found_and_mended([(host(3), "memory")], words, self.small())
        self.assertEqual(words["--hosts"], f"{host(1)}:1,{host(2)}:1,{host(3)}:1")
        for setting, batch in (("batch_size", 100000), ("global_batch_size", 300000)):
            config = self.small(**{f"data__{setting}": batch})
            has((small + needs(config)) / 2)
            words = self.words()
            self.found_and_mended([(host(3), "memory")], words, config)
            self.assertLess(int(words[f"--set data.{setting}"].split("=")[1]), batch)


@unittest.skipIf(tools(), tools())
class DoctorOnAMachine(Examined):
    """Host 1 as well is a machine of its own."""
    HOSTS, MACHINES, OURS = (1, 2), (1, 2), [LOCKSTEP]

    def test_a_user_without_a_key_who_has_not_been_there(self):
        config = self.folder / "sshd_config_2"
        config.write_text(config.read_text().replace("PasswordAuthentication no", "PasswordAuthentication yes").replace(f"{self.folder}/authorized", ".ssh/authorized_keys"))
        self.machines[2].sh("echo root:lockstep | chpasswd; rm -rf /root/.ssh; kill -HUP $(pgrep -o -x sshd)")
        self.machines[1].sh("rm -rf /root/.ssh")
        (self.folder / "known").write_text("")
        self.ssh_config.write_text(f"Host *\n UserKnownHostsFile {self.folder}/known\n")
        self.await_sshd(2)
        answers = {"continue connecting": "yes", "save the key": "", "passphrase.*: ": "", "password: ": "lockstep"}
        for expected in ("ssh .* true$", "ssh-keygen .* && ssh-copy-id "):
            (wrong,) = self.doctor(self.words(), env={"HOME": "/root"})
            self.assertEqual((wrong["host"], wrong["check"], wrong["mend_on"]), (host(2), "ssh", ""), wrong)
            self.assertRegex(wrong["mend"], f"^{expected}")
            self.answer(self.here("env", "HOME=/root", "sh", "-c", wrong["mend"]), answers)
        self.assertEqual(self.doctor(self.words()), [])

    def test_no_mpi(self):
        self.machines[1].sh(f"{self.with_repository('openmpi-bin')} && dpkg --purge --force-depends openmpi-bin")
        self.found_and_mended([("", "MPI")], self.words())


if __name__ == "__main__":
    run_tests()
