#!/usr/bin/env python3
"""thread_safety.py BUILD CLANG: clang's thread-safety analysis over every product source that sees an annotated mutex.

BUILD is a Ninja build of the whole: its dependency log says which sources those are. Exit 1: a lock is not held where an
annotation wants it, or BUILD has no such source (then it is not built).
"""
import concurrent.futures
import json
import os
import pathlib
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
MUTEX = "common/base/mutex.h"


def objects_with_mutex(build):
    """Objects, by their paths in `build`, whose sources include the mutex."""
    log = subprocess.run(["ninja", "-C", build, "-t", "deps"], check=True, stdout=subprocess.PIPE, text=True).stdout
    found, current = set(), None
    for line in log.splitlines():
        if line and not line.startswith((" ", "ninja:")):
            current = line.split(":", 1)[0]
        elif line.strip().endswith(MUTEX):
            found.add(current)
    return found


def syntax_only(command, clang):
    """The compiler's command for an object, made one of clang's that writes nothing and uses no precompiled header."""
    words, kept = iter(shlex.split(command)), []
    while not next(words).endswith("++"):  # up to the compiler: what launches it
        pass
    for word in words:
        if word in ("-o", "-include", "-MF", "-MT"):
            next(words)
        elif word not in ("-c", "-Winvalid-pch", "-MD"):
            kept.append(word)
    return [clang, "-fsyntax-only", "-Wno-everything", "-Wthread-safety", "-Werror", *kept]


def main():
    build, clang = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2]
    wanted = objects_with_mutex(build)
    commands = {}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        source = pathlib.Path(entry["file"]).resolve()
        if entry.get("output") is None:
            words = shlex.split(entry["command"])
            entry["output"] = words[words.index("-o") + 1]
        output = os.path.relpath(pathlib.Path(entry["directory"]) / entry["output"], build)
        if output in wanted and (ROOT / "tests") not in source.parents and ROOT in source.parents:
            commands[source.relative_to(ROOT)] = (syntax_only(entry["command"], clang), entry["directory"])
    if not commands:
        sys.exit(f"thread_safety.py: no object in {build} includes {MUTEX}: build it first")

    def check(item):
        source, (command, directory) = item
        return source, subprocess.run(command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for source, done in pool.map(check, sorted(commands.items())):
            if done.returncode != 0:
                failed += 1
                print(f"{source}:\n{done.stdout}")
    print(f"{len(commands)} sources, {failed} with findings")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
