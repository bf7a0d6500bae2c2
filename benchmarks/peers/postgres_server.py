"""A PostgreSQL of one's own: made in a scratch directory, on loopback and a free port, gone when it is closed.

``initdb`` refuses to work for root, so root has it done by another user, in a directory which that user can reach.
"""

from __future__ import annotations

import atexit
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
from time import monotonic, sleep
from typing import Any

from benchmarks.peers.peer import MissingPeerError

_START_S = 60
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "512MB",  # of a machine with a few GB; the default of 128 MB is for small ones, says the manual
    "max_wal_size": "4GB",  # https://www.postgresql.org/docs/15/populate.html: fewer checkpoints while filling
    "fsync": "on",
    "full_page_writes": "on",
}
_INITDB = ("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync")
_WHERE = "server.json"


def binaries() -> str:
    """The directory of ``initdb`` and ``postgres``.

    Raises:
        MissingPeerError: there is none.
    """
    found = shutil.which("initdb")
    if found is not None:
        return os.path.dirname(os.path.realpath(found))
    base = "/usr/lib/postgresql"  # where Debian keeps them, one directory a version
    if os.path.isdir(base):
        for release in sorted(os.listdir(base), key=lambda text: float(text) if text.isdigit() else 0, reverse=True):
            if os.path.exists(f"{base}/{release}/bin/initdb"):
                return f"{base}/{release}/bin"
    raise MissingPeerError("initdb is not there: Debian's package postgresql is not installed")


def server_version() -> str:
    """As ``postgres --version`` has it.

    Raises:
        MissingPeerError: it is not there.
    """
    said = subprocess.run([f"{binaries()}/postgres", "--version"], capture_output=True, text=True, check=True).stdout
    return said.split()[2]


def where_served(directory: str) -> dict[str, Any] | None:
    """How to connect to the server that belongs to a directory, or None where there is none."""
    try:
        with open(os.path.join(directory, _WHERE), encoding="utf-8") as file:
            found: dict[str, Any] = json.load(file)
    except FileNotFoundError:
        return None
    return found


class PostgresServer:
    """A running server, from start to end.

    Args:
        directory: says where the server is (``server.json``); the data are beside it, or further up where the user that
            runs the server can reach them.

    Raises:
        MissingPeerError: it cannot be made or started.
    """

    def __init__(self, directory: str) -> None:
        self._where = os.path.join(directory, _WHERE)
        self._user = _other_user()
        self.data = tempfile.mkdtemp(
            prefix="memstore-postgres-", dir=_reachable(directory, by_other=self._user is not None)
        )
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)
        try:
            self._make(secrets.token_hex(16))
        except BaseException:
            self.close()
            raise

    def _make(self, password: str) -> None:
        if self._user is not None:
            os.chown(self.data, self._user.pw_uid, self._user.pw_gid)
        cluster, secret, log = (os.path.join(self.data, name) for name in ("cluster", "password", "log"))
        with open(secret, "w", encoding="ascii") as file:
            file.write(password)
        if self._user is not None:
            os.chown(secret, self._user.pw_uid, self._user.pw_gid)
        made = subprocess.run(
            [f"{binaries()}/initdb", "-D", cluster, "-U", "memstore", f"--pwfile={secret}", *_INITDB],
            capture_output=True,
            text=True,
            check=False,
            **self._as_user(),
        )
        os.unlink(secret)
        if made.returncode != 0:
            raise MissingPeerError(f"initdb failed: {made.stderr.strip() or made.stdout.strip()}")
        port = _free_port()
        settings = [f"--{name}={value}" for name, value in {**_SETTINGS, "port": port}.items()]
        with open(log, "wb") as output:
            self._process = subprocess.Popen(
                [f"{binaries()}/postgres", "-D", cluster, *settings], stdout=output, stderr=output, **self._as_user()
            )
        self._await(port, log)
        found = {"host": "127.0.0.1", "port": port, "user": "memstore", "password": password, "dbname": "postgres"}
        with open(self._where, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), stat.S_IRUSR | stat.S_IWUSR)
            json.dump(found, file)

    def _as_user(self) -> dict[str, Any]:
        base: dict[str, Any] = {"cwd": self.data, "stdin": subprocess.DEVNULL}
        if self._user is None:
            return base
        return {**base, "user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}

    def _await(self, port: int, log: str) -> None:
        assert self._process is not None
        until = monotonic() + _START_S
        while self._process.poll() is None and monotonic() < until:
            with open(log, encoding="utf-8", errors="replace") as file:
                if "ready to accept connections" in file.read():
                    return
            sleep(0.05)
        with open(log, encoding="utf-8", errors="replace") as file:
            raise MissingPeerError(f"postgres did not start on port {port}: {file.read()[-500:]}")

    def close(self) -> None:
        """Stop it and remove its data; again is nothing."""
        atexit.unregister(self.close)
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGINT)  # "fast": connections are ended
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if os.path.exists(self._where):
            os.unlink(self._where)
        shutil.rmtree(self.data, ignore_errors=True)


def _other_user() -> pwd.struct_passwd | None:
    """Who runs the server where this process is root's: ``postgres``, else ``nobody``; None where it need not be."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise MissingPeerError("root may not run postgres, and there is neither a user postgres nor nobody")


def _reachable(directory: str, *, by_other: bool) -> str:
    """The directory itself, or the nearest above it that another user can reach; on the same file system."""
    place = os.path.abspath(directory)
    if not by_other:
        return place
    device = os.stat(place).st_dev
    while not _open_to_all(place):
        place = os.path.dirname(place)
    if os.stat(place).st_dev != device:
        raise MissingPeerError(f"no directory of {directory}'s file system can be reached by another user than root")
    return place


def _open_to_all(place: str) -> bool:
    while os.stat(place).st_mode & stat.S_IXOTH:
        if place == "/":
            return True
        place = os.path.dirname(place)
    return False


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
