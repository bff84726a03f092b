"""Real processes that run `dubio` without waiting for its imports: a server that has imported all forks one a command.

Its children can be killed, write to standard error by whatever way, and share nothing with the test's own process.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

PATIENCE = 300  # seconds to wait for the moment of a kill
HOLD = "hold"  # do not reap the child before the next line: its pid stays its own until then


class Forks:
    """Use as a context manager; one command at a time."""

    def __init__(self, environment):
        self.environment = environment

    def __enter__(self):
        self.noise = tempfile.TemporaryFile("w+")
        self.server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.noise, text=True,
            env=self.environment,
        )  # fmt: skip
        assert self.server.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *_):
        self.server.stdin.close()
        self.server.wait(60)
        self.noise.close()

    def said(self):
        """What the server itself wrote to standard error, mostly on importing the commands."""
        self.noise.seek(0)
        return self.noise.read()

    def run(self, arguments, log, kill_after=None, pause=0.0, limit=None):
        """(exit code, seconds): negative where a signal ended it. `log` gets standard output and error.

        kill_after: seconds, or a function that says when. limit: bytes a file. pause: seconds to wait before each
        rename, so that a kill at random finds half a state.
        """
        order = {"arguments": [str(a) for a in arguments], "log": str(log), "pause": pause, "limit": limit,
                 "cache": os.environ["DUBIO_CACHE"], HOLD: kill_after is not None}  # fmt: skip
        start = time.perf_counter()
        self.server.stdin.write(json.dumps(order) + "\n")
        self.server.stdin.flush()
        pid = int(self.server.stdout.readline())
        if kill_after is not None:
            when = kill_after if callable(kill_after) else lambda: time.perf_counter() > start + kill_after
            while not when() and time.perf_counter() < start + PATIENCE:
                time.sleep(0.001)
            os.kill(pid, signal.SIGKILL)
            self.server.stdin.write("\n")
            self.server.stdin.flush()
        code = int(self.server.stdout.readline())
        return code, time.perf_counter() - start


def serve():
    import dubio.cli.evaluate
    import dubio.cli.fit
    import dubio.cli.posterior
    import dubio.cli.score
    import dubio.cli.train  # noqa: F401

    print("ready", flush=True)
    while line := sys.stdin.readline():
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            child(order)
        print(pid, flush=True)
        if order[HOLD]:
            sys.stdin.readline()
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    os._exit(0)  # all that was imported takes seconds to take leave


def child(order):
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.environ["DUBIO_CACHE"] = order["cache"]
    if order["limit"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["limit"], order["limit"]))
    if order["pause"]:
        rename = Path.replace

        def slowly(self, target):
            time.sleep(order["pause"])
            return rename(self, target)

        Path.replace = slowly
    from dubio.cli.main import main

    sys.argv = ["dubio", *order["arguments"]]
    code = 1
    try:
        main()
    except SystemExit as stop:
        code = stop.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
