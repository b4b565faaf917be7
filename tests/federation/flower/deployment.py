"""Flower's own processes on loopback: a SuperLink over TLS, SuperNodes with keys of their own."""

import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import httpx
import psutil
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec

BIN = Path(sys.executable).parent


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def private_key(path: Path, kind: form.PrivateFormat) -> ec.EllipticCurvePrivateKey:
    key = ec.generate_private_key(ec.SECP384R1())
    path.write_bytes(key.private_bytes(form.Encoding.PEM, kind, form.NoEncryption()))
    return key


@dataclass
class Deployment:
    """A folder with certificates, keys, logs and Flower's home; processes end with it.

    Without TLS and keys if it is `plain`, with its state in memory without `database`.
    """

    folder: Path
    simulated: int = 0
    plain: bool = False
    database: bool = True
    processes: dict[str, subprocess.Popen] = field(default_factory=dict)

    def __post_init__(self):
        self.port, self.plain = free_port(), self.plain or self.simulated > 0
        self.environment = os.environ | {
            "FLWR_HOME": str(self.folder / "home"),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",  # of processes for messages; 1 s otherwise
            "RAY_worker_niceness": "0",  # 15 otherwise: of a busy machine nodes get nothing
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
        }
        (self.folder / "home").mkdir(parents=True)
        scheme = "insecure = true" if self.plain else f'root-certificates = "{self.ca}"'
        (self.folder / "home/config.toml").write_text(
            '[superlink]\ndefault = "it"\n[superlink.it]\n'
            f'address = "127.0.0.1:{self.port}"\n{scheme}\n'
        )

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    def certify(self) -> None:
        """Make an authority, and the server's certificate by it."""
        ca_key = private_key(self.folder / "ca.key", form.PrivateFormat.PKCS8)
        key = private_key(self.folder / "server.key", form.PrivateFormat.PKCS8)
        ca = self._certificate("test-ca", "test-ca", ca_key, ca_key, authority=True)
        own = self._certificate("127.0.0.1", "test-ca", key, ca_key, authority=False)
        self.ca.write_bytes(ca.public_bytes(form.Encoding.PEM))
        (self.folder / "server.pem").write_bytes(own.public_bytes(form.Encoding.PEM))

    def _certificate(self, name, issuer, key, signer, *, authority):
        def named(text):
            return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(
            named(issuer), named(name), key.public_key(), 1 + authority
        )
        builder = builder.not_valid_before(now - timedelta(hours=1))
        builder = builder.not_valid_after(now + timedelta(days=1))
        builder = builder.add_extension(x509.BasicConstraints(authority, None), critical=True)
        if not authority:
            address = x509.IPAddress(ip_address("127.0.0.1"))
            builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        return builder.sign(signer, hashes.SHA256())

    def start(self, name: str, *words: object) -> None:
        """Start a process, its output in NAME.log."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [BIN / words[0], *map(str, words[1:])],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def start_superlink(self) -> None:
        words = ["flower-superlink", "--host", "127.0.0.1", "--port", self.port]
        words += ["--disable-runtime-dependency-installation"]
        words += ["--database", self.folder / "state.db"] * self.database
        if self.plain:
            words += ["--insecure"] + ["--simulation"] * (self.simulated > 0)
        else:
            self.ca.exists() or self.certify()
            words += ["--ssl-ca-certfile", self.ca, "--ssl-certfile", self.folder / "server.pem"]
            words += ["--ssl-keyfile", self.folder / "server.key", "--enable-supernode-auth"]
        self.start("superlink", *words)
        scheme, verify = ("http", False) if self.plain else ("https", str(self.ca))
        for _ in range(600):
            assert self.processes["superlink"].poll() is None, self.log("superlink")
            try:
                if httpx.get(f"{scheme}://127.0.0.1:{self.port}/health", verify=verify).is_success:
                    return
            except httpx.HTTPError:
                time.sleep(0.2)
        raise AssertionError(self.log("superlink"))

    def make_key(self, name: str) -> None:
        """Make a SuperNode's key, and have the SuperLink know it."""
        key = private_key(self.folder / name, form.PrivateFormat.OpenSSH)
        public = key.public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH)
        (self.folder / f"{name}.pub").write_bytes(public)
        self.flwr("supernode", "register", self.folder / f"{name}.pub", "it")

    def start_supernode(self, name: str, device: Path) -> None:
        words = ["flower-supernode", "--superlink", f"127.0.0.1:{self.port}"]
        words += ["--port", free_port()]
        if self.plain:
            words += ["--insecure"]
        else:
            words += ["--root-certificates", self.ca]
            words += ["--auth-supernode-private-key", self.folder / name]
        words += ["--node-config", f'device="{device}" name="{name}"']
        self.start(f"node-{name}", *words)

    def flwr(self, *words: object, seconds: float = 300) -> str:
        """Run `flwr` to its end, and return what it says."""
        result = subprocess.run(
            [BIN / "flwr", *map(str, words)],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
        )
        assert result.returncode == 0, result.stdout
        return result.stdout

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def stop(self) -> None:
        """End all processes, and those of apps that outlast the one they serve."""
        below = [
            child
            for process in self.processes.values()
            if process.poll() is None
            for child in psutil.Process(process.pid).children(recursive=True)
        ]
        for process in reversed(self.processes.values()):
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for child in below:
            with suppress(psutil.Error):
                child.kill()
