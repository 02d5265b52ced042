"""Our two halves started by hand on a lab: the coordinator on host 1, and mpirun over all of them."""
import pathlib
import re
import signal
import subprocess

from lab import Lab


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


def train(lab, ranks, binaries, flags, deadline):
    """A run of `lockstep serve` with these flags to its end, within `deadline` seconds."""
    serve = lab.start(1, binaries / "lockstep", "serve", *flags, "--listen", f"{lab.address(1)}:0", stdout=subprocess.PIPE, text=True)
    says = serve.stdout.readline() + serve.stdout.readline()
    address, token = re.search(r"waiting at (\S+) for", says), re.search(r"\$\(cat (\S+)\)", says)
    if not address or not token:
        raise Failed(f"lockstep serve ended with exit code {serve.wait()}")
    environment = Lab.mpirun_environment(LOCKSTEP_TOKEN=pathlib.Path(token[1]).read_text().strip(), OMP_NUM_THREADS="1")
    passed_on = ("-x", "LOCKSTEP_TOKEN", "-x", "OMP_NUM_THREADS")
    workers = lab.mpirun(ranks, *passed_on, binaries / "lockstep-worker", "--coordinator", address[1])
    finish(subprocess.Popen(workers, env=environment, stdout=subprocess.DEVNULL), deadline, "mpirun of lockstep-worker")
    finish(serve, deadline, "lockstep serve")
