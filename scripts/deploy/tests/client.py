"""The real command-line client of AWS, started once and forked for each call.

Its start takes longer than what a script asks of it. A directory with an `aws` that hands over its
arguments, environment and files is put first in the PATH.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

HAND_OVER = """#!{python} -IS
import json, os, socket, sys
there = socket.socket(socket.AF_UNIX)
there.connect({path!r})
socket.send_fds(there, [b"f"], [0, 1, 2])
there.sendall(json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]).encode())
there.shutdown(socket.SHUT_WR)
sys.exit(int(there.recv(8) or 1))
"""


@contextlib.contextmanager
def client():
    """Gives the directory that `aws` lies in."""
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/socket"
        shim = Path(directory, "aws")
        shim.write_text(HAND_OVER.format(python=sys.executable, path=path))
        shim.chmod(0o755)
        server = subprocess.Popen([sys.executable, __file__, path])
        try:
            while not os.path.exists(path):
                time.sleep(0.05)
            yield directory
        finally:
            server.terminate()
            server.wait()


def serve(path):
    from awscli.clidriver import main

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{path}.new")
    listener.listen()
    os.rename(f"{path}.new", path)
    while True:
        there, _ = listener.accept()
        if os.fork():
            there.close()
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _, files, _, _ = socket.recv_fds(there, 1, 3)
        arguments, environment, directory = json.loads(b"".join(iter(lambda: there.recv(65536), b"")))
        for number, file in enumerate(files):
            os.dup2(file, number)
        # Where its descriptions of services are, it has noted at its start.
        environment["AWS_DATA_PATH"] = os.environ["AWS_DATA_PATH"]
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(directory)
        sys.argv = ["aws", *arguments]
        code = 1
        try:
            code = main()
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            there.sendall(str(code).encode())
            os._exit(0)


if __name__ == "__main__":
    serve(sys.argv[1])
