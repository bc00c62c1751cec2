"""A proxy before a real server that counts requests and can answer as other servers do."""

import contextlib
import http.client
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
_HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "date", "server"}


class Forwarder(ThreadingHTTPServer):
    """Hands requests on to a server.

    Attributes:
        asked: method and path of every request, without what is asked for beside it.
        headers: of every request, in the same order.
        sent: what came with each of them.
        answer: takes a request and the status and body of its answer, and returns those that are
            sent; it may change any.
    """

    daemon_threads = True

    def __init__(self, server):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = ("127.0.0.1", server.port)
        self.uri = f"http://127.0.0.1:{self.server_port}"
        self.asked, self.headers, self.sent = [], [], []
        self.answer = lambda _request, status, body: (status, body)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def forget(self):
        self.asked.clear()
        self.headers.clear()
        self.sent.clear()

    def count(self):
        """How often each path was asked for."""
        return Counter(path for _, path in self.asked)

    def stop(self):
        self.shutdown()
        self.server_close()


def missing_is_a_failure(request, status, body):
    """As older servers of MLflow answer for an artifact that is not there."""
    _, path = request
    if path.startswith(f"{ARTIFACTS}/") and status == 404:
        return 500, b"<h1>Internal Server Error</h1>"
    return status, body


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle(self):
        with contextlib.suppress(ConnectionError):  # the client goes when it has what it wants
            super().handle()

    def _pass_on(self):
        request = (self.command, unquote(urlsplit(self.path).path))
        self.server.asked.append(request)
        self.server.headers.append(dict(self.headers))
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.sent.append(sent)
        far = http.client.HTTPConnection(*self.server.target, timeout=30)
        far.request(self.command, self.path, sent or None, dict(self.headers))
        answer = far.getresponse()
        status, body = self.server.answer(request, answer.status, answer.read())
        self.send_response(status)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        far.close()

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _pass_on  # noqa: N815 - as the class wants

    def log_message(self, *_arguments):
        """Say nothing."""
