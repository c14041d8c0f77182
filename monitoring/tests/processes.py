"""Processes of the harness: each logs into a file, and ends with the harness, whatever ends that."""

import contextlib
import subprocess

END_SECS = 10


class Processes:
    """Starts processes, and ends those that it started."""

    def __init__(self, logs):
        self.logs = logs
        self.running = {}
        logs.mkdir(parents=True, exist_ok=True)

    def start(self, name, *command, env=None, user=None):
        """Starts a program under a name, of which one process runs at a time."""
        self.end(name)
        # The kernel ends the process when the harness dies without a chance to.
        words = ["setpriv", "--pdeathsig", "KILL"]
        if user:
            words += [f"--reuid={user}", f"--regid={user}", "--init-groups"]
        with (self.logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*words, *map(str, command)], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=env, start_new_session=True
            )
        self.running[name] = process
        return process

    def check(self):
        """Raises when a process has ended."""
        for name, process in self.running.items():
            if process.poll() is not None:
                raise RuntimeError(f"{name} has ended with {process.returncode}: its log is {self.logs / name}.log")

    def end(self, name):
        """Ends a process, if it runs."""
        process = self.running.pop(name, None)
        if process is None:
            return
        process.terminate()
        try:
            process.wait(END_SECS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def end_all(self):
        """Ends every process."""
        for process in self.running.values():
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        for name in list(self.running):
            self.end(name)
