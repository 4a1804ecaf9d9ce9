"""Three Ray nodes of one machine: a head and two workers, each in a network namespace of its own on one bridge.

Needs root, ip(8), and ray in an environment of its own (RAY_VENV, `make test-ray` makes it). The nodes share this
machine's disks, so a run's bytes must be told apart by an object store that is reached over the bridge (`Moto`).
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

HEAD, WORKERS = 2, (3, 4)
"""The last byte of the nodes' addresses; 1 is this machine's own."""
_START_S = 90.0
STARTS = 4
"""Ray's own start may fail beside a busy machine: whoever runs it tries again."""


def missing(venv: Path) -> str | None:
    """Why there can be no cluster here, or None."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "network namespaces need root on Linux"
    if shutil.which("ip") is None:
        return "ip(8) is not installed"
    return None if (venv / "bin" / "ray").exists() else f"ray is not installed in {venv}"


@dataclass
class RayCluster:
    """As a context, all nodes run; at its end all of their processes are killed and the namespaces removed.

    `environment` is what the nodes get beyond this process's: the store's credentials, for example.
    """

    folder: Path
    venv: Path
    environment: dict[str, str] = field(default_factory=dict)
    network: str = "10.77"
    name: str = field(default_factory=lambda: f"lt{os.getpid() % 100000}")
    failed_starts: int = 0
    """How often `ray start` has failed and was tried again."""

    def __enter__(self) -> Self:
        try:
            _ip("link", "add", self._bridge, "type", "bridge")
            _ip("addr", "add", f"{self.address(1)}/24", "dev", self._bridge)
            _ip("link", "set", self._bridge, "up")
            for node in (HEAD, *WORKERS):
                self._add_namespace(node)
            self.start_head()
            for node in WORKERS:
                self.start_worker(node)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends everything; what is not there is passed over."""
        for node in (HEAD, *WORKERS):
            with contextlib.suppress(subprocess.CalledProcessError):
                self.kill(node)
            _ip("netns", "del", self._namespace(node), check=False)
            shutil.rmtree(self._temporary(node), ignore_errors=True)
        _ip("link", "del", self._bridge, check=False)

    def address(self, node: int) -> str:
        return f"{self.network}.0.{node}"

    @property
    def dashboard(self) -> str:
        """The address of the Jobs API, as LUTHIER_RAY_ADDRESS."""
        return f"http://{self.address(HEAD)}:8265"

    def start_head(self) -> None:
        """Starts the head without CPUs of its own, its state in RocksDB: it outlives the head's processes."""
        storage = {"RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": str(self.folder / "gcs")}
        (self.folder / "gcs").mkdir(parents=True, exist_ok=True)
        where = (f"--dashboard-host={self.address(HEAD)}", "--dashboard-port=8265", "--port=6379", "--num-cpus=0")
        self._ray(HEAD, "--head", *where, **storage)
        self.wait_for_head()

    def start_worker(self, node: int) -> None:
        """Starts a worker with two CPUs and the label `node`."""
        self._ray(node, f"--address={self.address(HEAD)}:6379", "--num-cpus=2", "--labels", f"node=w{node}")

    def wait_for_head(self) -> None:
        """Returns once the Jobs API answers. Raises TimeoutError."""
        deadline = time.monotonic() + _START_S
        while True:
            try:
                with urllib.request.urlopen(f"{self.dashboard}/api/jobs/", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                if time.monotonic() > deadline:
                    raise TimeoutError("Ray's head does not answer") from None
                time.sleep(0.2)

    def kill(self, node: int) -> None:
        """Kills every process of a node at once, as a power cut does."""
        for _ in range(20):  # what starts meanwhile is killed in turn
            pids = self.pids(node)
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if not pids:
                return
            time.sleep(0.05)

    def pids(self, node: int) -> list[int]:
        """All processes in a node's namespace."""
        done = _ip("netns", "pids", self._namespace(node), check=False)
        return [int(pid) for pid in done.stdout.split()]

    def cut(self, node: int) -> None:
        """Cuts a node's link: packets vanish in both directions."""
        _ip("link", "set", self._link(node), "down")

    def heal(self, node: int) -> None:
        _ip("link", "set", self._link(node), "up")

    @contextlib.contextmanager
    def stopped(self, node: int) -> Iterator[None]:
        """A node whose processes all stand still meanwhile, as a suspended machine's."""
        pids = self.pids(node)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def _ray(self, node: int, *options: str, **variables: str) -> None:
        """Runs `ray start` in a node's namespace. Raises RuntimeError with what it printed, after STARTS."""
        environment = {**os.environ, **self.environment, **variables, "RAY_USAGE_STATS_ENABLED": "0"}
        environment["LUTHIER_RUNNER_DIR"] = str(self.folder / f"node{node}")
        own = (f"--node-ip-address={self.address(node)}", "--object-store-memory=78643200", "--disable-usage-stats")
        temporary = ("--temp-dir", str(self._temporary(node))) if node == HEAD else ()
        command = ["ip", "netns", "exec", self._namespace(node), str(self.venv / "bin" / "ray"), "start", *own]
        path = self.folder / f"ray{node}.log"
        for _ in range(STARTS):
            # `ray start` takes an address in this file for a head that runs if any process of the machine names it,
            # and all nodes' processes are in one table here.
            (self._temporary(HEAD) / "ray_current_cluster").unlink(missing_ok=True)
            with path.open("ab") as log:
                done = subprocess.run(
                    [*command, *temporary, *options],
                    check=False,
                    env=environment,
                    cwd=self.folder,
                    stdout=log,
                    stderr=log,
                )
            if done.returncode == 0:
                return
            self.failed_starts += 1
            self.kill(node)
        raise RuntimeError(f"Ray does not start on node {node}: {path.read_text()[-2000:]}")

    def _add_namespace(self, node: int) -> None:
        """Makes a node's namespace, with a link to the bridge."""
        namespace, link = self._namespace(node), self._link(node)
        _ip("netns", "add", namespace)
        _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        _ip("link", "set", link, "master", self._bridge, "up")
        _ip("-n", namespace, "addr", "add", f"{self.address(node)}/24", "dev", "eth0")
        _ip("-n", namespace, "link", "set", "eth0", "up")
        _ip("-n", namespace, "link", "set", "lo", "up")

    @property
    def _bridge(self) -> str:
        return f"{self.name}b"

    def _namespace(self, node: int) -> str:
        return f"{self.name}n{node}"

    def _link(self, node: int) -> str:
        return f"{self.name}v{node}"

    def _temporary(self, node: int) -> Path:
        """Ray's own folder; short, since the names of its sockets may have 107 bytes."""
        return Path(f"/tmp/{self.name}-{node}")


@dataclass
class Moto:
    """An S3 server for the cluster, moto's, on this machine's address of the bridge; as a context, with a bucket.

    `python` has moto. Its objects are in memory.
    """

    python: Path
    address: str
    port: int = 5555
    bucket: str = "runs"

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [str(self.python), "-m", "moto.server", "-H", self.address, "-p", str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while True:
            request = urllib.request.Request(f"{self.url}/{self.bucket}", method="PUT")
            try:
                with urllib.request.urlopen(request, timeout=5):
                    return self
            except (urllib.error.URLError, OSError):
                if time.monotonic() > deadline:
                    self._process.kill()
                    raise
                time.sleep(0.1)

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What obstore reads of the environment to use it."""
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
        return {**keys, "AWS_ENDPOINT": self.url, "AWS_ALLOW_HTTP": "true"}


def _ip(*arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["ip", *arguments], check=check, capture_output=True, text=True)
