"""Processes that start without imports: a server imports what they need, and forks for each of them.

Snakemake and PyTorch take seconds to import, and many tests need a process of its own: one that is killed, that has
limits, or that changes global state. The standard library's fork server has no pipes for what a process prints.
"""

import atexit
import gc
import importlib
import json
import multiprocessing
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
LENGTH = struct.Struct("I")


class ForkServer:
    """A process that has imported some modules; it starts with the first call, and runs one call at a time."""

    def __init__(self, *modules: str) -> None:
        self.modules = modules
        self.process: subprocess.Popen[bytes] | None = None
        self.call: Call | None = None

    def start(self, function: str, *arguments: Any, folder: Path | None = None) -> "Call":
        """Call "module:function" with values that JSON can hold, in a process of its own, in a folder."""
        if self.process is None:
            self._begin()
        if self.call and not self.call.is_finished:  # its test has failed
            self.call.kill()
            self.call.finish()
        request = {"function": function, "arguments": arguments, "folder": str(folder or Path.cwd())}
        message = json.dumps(request | {"environment": dict(os.environ)}).encode()
        (out, out_end), (errors, errors_end) = os.pipe(), os.pipe()
        socket.send_fds(self.socket, [LENGTH.pack(len(message))], [out_end, errors_end])
        self.socket.sendall(message)
        os.close(out_end)
        os.close(errors_end)
        self.call = Call(self.socket, out, errors)
        return self.call

    def run(self, function: str, *arguments: Any, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Do the same, and wait for the end."""
        return self.start(function, *arguments, folder=folder).finish()

    def _begin(self) -> None:
        self.socket, theirs = socket.socketpair()
        command = [sys.executable, "-m", "helpers.fork_server", str(theirs.fileno()), *self.modules]
        self.process = subprocess.Popen(command, cwd=TESTS, pass_fds=[theirs.fileno()])
        theirs.close()
        atexit.register(self._end)

    def _end(self) -> None:
        self.socket.close()
        self.process.wait()


class Call:
    """A process that a server has started."""

    def __init__(self, server: socket.socket, out: int, errors: int) -> None:
        self._server = server
        self._pipes = (out, errors)
        self.is_finished = False
        (self.pid,) = LENGTH.unpack(server.recv(LENGTH.size))

    def is_running(self) -> bool:
        """Whether the process has not ended yet."""
        return not select.select([self._server], [], [], 0)[0]

    def send_signal(self, number: int) -> None:
        """Send a signal to the process."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the process."""
        self.send_signal(signal.SIGKILL)

    def finish(self) -> subprocess.CompletedProcess[str]:
        """Wait for the end; a return code below zero is the signal that ended it."""
        with ThreadPoolExecutor(2) as readers:
            out, errors = readers.map(_text_of, self._pipes)
        (code,) = struct.unpack("i", self._server.recv(LENGTH.size))
        self.is_finished = True
        return subprocess.CompletedProcess([], code, out, errors)


def _text_of(pipe: int) -> str:
    with open(pipe) as file:
        return file.read()


def serve(client: socket.socket) -> None:
    """Fork for each request, and answer with the number of the process and then with its return code."""
    fork = multiprocessing.get_context("fork")
    while True:
        header, ends, _, _ = socket.recv_fds(client, LENGTH.size, 2)
        if not header:  # the client has ended
            return
        message = client.recv(*LENGTH.unpack(header), socket.MSG_WAITALL)
        process = fork.Process(target=call, args=(json.loads(message), *ends))
        process.start()
        for end in ends:
            os.close(end)
        client.sendall(LENGTH.pack(process.pid))
        process.join()
        client.sendall(struct.pack("i", process.exitcode))


def call(request: dict[str, Any], out: int, errors: int) -> None:
    """Make a call. It ends as a process of multiprocessing does, as Python's own end takes longer than most calls."""
    os.dup2(out, 1)
    os.dup2(errors, 2)
    os.close(out)
    os.close(errors)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    module, function = request["function"].split(":")
    try:
        getattr(importlib.import_module(module), function)(*request["arguments"])
    finally:
        atexit._run_exitfuncs()  # removes temporary folders


def main() -> None:
    """Import modules and serve."""
    descriptor, *modules = sys.argv[1:]
    for module in modules:
        importlib.import_module(module)
    gc.freeze()  # so that a collection in a forked process does not copy what is imported
    serve(socket.socket(fileno=int(descriptor)))


if __name__ == "__main__":
    main()
