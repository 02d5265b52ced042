"""Runs of ours for a benchmark: `lockstep run` on this machine; on a lab the two halves by hand, the coordinator on host 1, and mpirun over
all hosts."""
import os
import re
import signal
import subprocess

from lab import Lab


for variable in ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"):
    os.environ.setdefault(variable, "1")  # benchmarks may be run as root


class Failed(Exception):
    """A side could not run."""


def finish(process, deadline, what):
    """Its output, once it has ended well."""
    try:
        output = process.communicate(timeout=deadline)[0]
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        raise Failed(f"{what} did not end within {deadline} s") from None
    if process.returncode != 0:
        raise Failed(f"{what} ended with exit code {process.returncode}")
    return output


def start(binaries, flags):
    """On this machine."""
    return subprocess.Popen([binaries / "lockstep", "run", *flags], stdout=subprocess.DEVNULL)


def train(lab, ranks, binaries, flags, deadline):
    """To its end, within `deadline` seconds; on this machine if `lab` is None."""
    if lab is None:
        finish(start(binaries, flags), deadline, "lockstep run")
        return
    serve = lab.start(1, binaries / "lockstep", "serve", *flags, "--listen", f"{lab.address(1)}:0", stdout=subprocess.PIPE, text=True)
    says = serve.stdout.readline() + serve.stdout.readline()
    address, credentials = re.search(r"waiting at (\S+) for", says), re.search(r"LOCKSTEP_CREDENTIALS=(\S+)", says)
    if not address or not credentials:
        raise Failed(f"lockstep serve ended with exit code {serve.wait()}")
    environment = Lab.mpirun_environment(LOCKSTEP_CREDENTIALS=credentials[1], OMP_NUM_THREADS="1")
    passed_on = ("-x", "LOCKSTEP_CREDENTIALS", "-x", "OMP_NUM_THREADS")
    workers = lab.mpirun(ranks, *passed_on, binaries / "lockstep-worker", "--coordinator", address[1])
    finish(subprocess.Popen(workers, env=environment, stdout=subprocess.DEVNULL), deadline, "mpirun of lockstep-worker")
    finish(serve, deadline, "lockstep serve")
