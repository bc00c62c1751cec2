"""The pages by a server of our own, beside any tracking server: what `actiontrack ui` starts.

A tracking server need not know of it: the pages read it through MLflow's client. Who may see what
is decided once, when it starts:

- a server with a login: each visitor logs in with his account there, see `web.visitors`;
- a server without one: everybody sees it, from this machine; requests carry no credentials;
- what only an account's own credentials open (Databricks, Azure ML, SageMaker, a database), or any
  server that is to be read by them: the pages show what the starter may see, from this machine, to
  whoever has the token.
"""

import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import flask
from werkzeug.middleware.proxy_fix import ProxyFix

from actiontrack import settings
from actiontrack.errors import ParameterError, StoreError, reason_of
from actiontrack.store import Store
from actiontrack.store.addresses import Address, check_plugin, databricks_host, origin_of
from actiontrack.store.credentials import Visitor, forget_own_credentials, set_visitor
from actiontrack.store.logins import has_login
from actiontrack.store.ping import PING_S
from actiontrack.store.reach import Reach
from actiontrack.web.app import install
from actiontrack.web.gate import TOKEN, Gate, check_prefix, is_loopback, loopback_names
from actiontrack.web.images import ROOTS_VARIABLE, ImageRoots
from actiontrack.web.permissions import Everybody
from actiontrack.web.routes import PREFIX
from actiontrack.web.visitors import Visitors

__all__ = ["Account", "Listening", "Pages", "serve"]

logger = logging.getLogger("actiontrack")

#: Whose eyes the pages have: each visitor's own, nobody's in particular, or the starter's.
Account = Literal["visitors", "nobody", "mine"]

_THREADS = 16
_BUSY_S = 30  # that a server may be busy with the passwords of other visitors
_MAX_BODY = 2**20
_MAX_HEADERS = 2**16


@dataclass(frozen=True, kw_only=True)
class Listening:
    """Where a server of pages listens, and by which names it is reached.

    Attributes:
        host: address to listen at.
        port: port to listen at.
        certificate: file of a certificate for TLS.
        key: file of its private key.
        hops: proxies in front whose X-Forwarded headers are believed.
        prefix: path in front of everything, such as "/tools".
        names: names that the header Host may have, beside those of this machine for itself.
    """

    host: str = "127.0.0.1"
    port: int = 5000
    certificate: Path | None = None
    key: Path | None = None
    hops: int = 0
    prefix: str = ""
    names: Sequence[str] = ()

    def check(self, account: Account) -> None:
        """Refuse to show to others what is not theirs, or their passwords to the network.

        Raises:
            ParameterError: says which option is wrong.
        """
        if (self.certificate is None) != (self.key is None):
            missing = "--certificate" if self.certificate is None else "--key"
            raise ParameterError(missing, "must be given with the other", None, "Name both files.")
        check_prefix("--prefix", self.prefix, "Choose letters, digits and any of _ . ~ -.")
        local = is_loopback(self.host)
        if account != "visitors":
            if local and not self.hops and not self.names:
                return
            rule = "must keep the pages on this machine: nobody logs in to them"
            value = self.host if not local else f"{self.hops} proxies, {', '.join(self.names)}"
            raise ParameterError(
                "--host, --behind-proxy, --allowed-host",
                rule,
                value,
                "Drop these options, and reach the pages from elsewhere by ssh -L.",
            )
        if not local and self.certificate is None and not self.hops:
            raise ParameterError(
                "--host",
                "must be a loopback address where passwords would travel in the clear",
                self.host,
                "Pass --certificate and --key, or --behind-proxy 1 where a proxy ends TLS.",
            )
        if self.host in {"0.0.0.0", "::"} and not self.names:  # noqa: S104 - what is looked for
            raise ParameterError(
                "--allowed-host",
                "must tell by which name visitors reach the pages",
                None,
                "Pass --allowed-host mlflow.example.org.",
            )

    @property
    def address(self) -> str:
        """Address of the first page for a browser on this machine."""
        scheme = "https" if self.certificate else "http"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}{self.prefix}{PREFIX}/"


@dataclass(frozen=True, kw_only=True)
class Pages:
    """What is served.

    Attributes:
        address: of the tracking server.
        account: whose eyes the pages have. Default: as the server wants it.
        mlflow_url: address of MLflow's own pages. Default: that of the server, if it has any.
        artifact_roots: see `Reach`.
    """

    address: Address
    account: Literal["visitors", "mine"] | None = None
    mlflow_url: str | None = None
    artifact_roots: Sequence[str] = ()

    def chosen_account(self) -> Account:
        """Whose eyes the pages have, after the server was asked whether it has a login.

        Raises:
            ParameterError: if visitors can't log in to such a store.
            StoreError: if the server does not answer.
        """
        if self.address.kind != "server":
            if self.account == "visitors":
                raise ParameterError(
                    "--account",
                    "must be mine for a store that visitors can't log in to by name and password",
                    self.account,
                    "Leave it out.",
                )
            return "mine"
        if self.account == "mine":
            return "mine"
        if has_login(self.address.without_login().uri):
            return "visitors"
        if self.account == "visitors":
            raise ParameterError(
                "--account",
                "must not be visitors for a server without a login",
                self.account,
                "Leave it out: everybody may read such a server.",
            )
        return "nobody"

    def home(self) -> str:
        """Address of MLflow's own pages, "" for none."""
        if self.mlflow_url is not None:
            return self.mlflow_url
        if self.address.kind == "server":
            return f"{self.address.without_login().uri.rstrip('/')}/"
        if self.address.kind == "databricks":
            return f"{databricks_host(self.address)}/ml/"
        return ""

    def image_roots(self) -> ImageRoots:
        """Folders that images may be read from: any that a record names, where all are our own.

        Raises:
            ParameterError: if the environment allows that for records of others.
        """
        roots = ImageRoots.from_environment()
        if self.address.is_local and not settings.IMAGE_ROOTS.value():
            return ImageRoots(recorded=True)  # and from this machine only, see `Listening.check`
        if roots.recorded and not self.address.is_local:
            raise ParameterError(
                ROOTS_VARIABLE,
                "must name folders: others write the records of this server",
                "recorded",
                "Name the folders of your datasets.",
            )
        return roots


def serve(pages: Pages, listening: Listening, tell: Any) -> None:
    """Serve pages until the process is told to end.

    Args:
        pages: what is served.
        listening: where.
        tell: called with the address once it answers.

    Raises:
        ActionTrackError: if the tracking server or the options do not allow it.
    """
    check_plugin(pages.address)
    account = pages.chosen_account()
    listening.check(account)
    token = secrets.token_urlsafe(24) if account == "mine" else None
    app = make_app(pages, listening, account, token)
    server = _server(app, listening)
    try:
        server.prepare()
    except OSError as error:
        server.stop()
        place = f"{listening.host}:{listening.port}"
        raise StoreError(
            f"cannot listen at {place}: {error.strerror or error}. Choose another --port."
        ) from error
    tell(listening.address + (f"?{TOKEN}={token}" if token else ""))
    try:
        server.serve()
    finally:
        server.stop()


def make_app(
    pages: Pages, listening: Listening, account: Account, token: str | None = None
) -> flask.Flask:
    """The application, behind its gate.

    Raises:
        ActionTrackError: if the tracking server refuses, or the environment contradicts it.
    """
    address = pages.address if account == "mine" else pages.address.without_login()
    uri = address.uri
    visitors = Visitors(uri) if account == "visitors" else None
    if account != "mine":
        forget_own_credentials()
    reach = Reach(uri, tuple(pages.artifact_roots)) if visitors else None
    store = Store(uri, reach=reach, timeout_s=_BUSY_S if visitors else PING_S)
    nobody = Visitor(origin_of(uri)) if account == "nobody" else None
    if visitors is None:
        set_visitor(nobody)
        store.check()
    app = flask.Flask("actiontrack", static_folder=None)
    gate = Gate(
        hosts=_names(listening),
        visitors=visitors,
        nobody=nobody,
        token=token,
        cookie=f"actiontrack_token_{listening.port}",
    )
    gate.guard(app)
    install(
        app,
        visitors or Everybody(),
        store=store,
        image_roots=pages.image_roots(),
        key=secrets.token_bytes(32),
        prefix=listening.prefix,
        mlflow_url=pages.home(),
    )
    _lead_in(app, listening.prefix)
    if listening.hops:
        hops = listening.hops
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops, x_prefix=hops
        )
    return app


def _names(listening: Listening) -> tuple[str, ...]:
    here = loopback_names(listening.host) if is_loopback(listening.host) else (listening.host,)
    return (*here, *listening.names)


def _lead_in(app: flask.Flask, prefix: str) -> None:
    """Lead from the root to the first page."""
    for path in {"/", f"{prefix}/", f"{prefix}{PREFIX}"}:
        app.add_url_rule(
            path,
            endpoint=f"lead_in_{path}",
            view_func=lambda: flask.redirect(flask.url_for("actiontrack.index")),
        )


def _server(app: flask.Flask, listening: Listening) -> Any:
    """The web server; Ctrl-C or SIGTERM ends it.

    Raises:
        ParameterError: if its certificate or key can't be used.
    """
    from cheroot import wsgi  # noqa: PLC0415 - only where it is started
    from cheroot.ssl.builtin import BuiltinSSLAdapter  # noqa: PLC0415

    server = wsgi.Server((listening.host, listening.port), app, numthreads=_THREADS)
    server.max_request_body_size = _MAX_BODY
    server.max_request_header_size = _MAX_HEADERS
    server.error_log = _log  # type: ignore[method-assign, assignment]
    if listening.certificate and listening.key:
        files = str(listening.certificate), str(listening.key)
        try:
            server.ssl_adapter = BuiltinSSLAdapter(*files)
        except (OSError, ValueError) as error:  # unreadable, or no PEM, or not of one pair
            raise ParameterError(
                "--certificate, --key",
                "must be a certificate and its private key in PEM",
                ", ".join(files),
                f"Correct the files: {reason_of(error)}.",
            ) from error
    return server


def _log(message: str = "", level: int = 20, traceback: bool = False) -> None:  # noqa: FBT001, FBT002
    """What the web server has to say, to our own log."""
    logger.log(level, "%s", message.strip(), exc_info=traceback)
