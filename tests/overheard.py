"""A web server that says little, and remembers what it was sent."""

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Overheard:
    """What a server has heard.

    Attributes:
        requests: method, path and headers of each request.
        status: of its answers.
        headers: of its answers.
        body: of its answers.
    """

    def __init__(self, uri):
        self.uri, self.requests = uri, []
        self.status, self.headers, self.body = 200, {}, b"{}"

    def sent(self, header):
        """The values of a header, None where a request had none."""
        return [headers.get(header) for _, _, headers in self.requests]


@contextlib.contextmanager
def overhearing():
    """A server on a port of its own, until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            heard.requests.append((self.command, self.path, self.headers))
            self.send_response(heard.status)
            for name, value in heard.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(heard.body)))
            self.end_headers()
            self.wfile.write(heard.body)

        do_GET = do_POST = do_PUT = answer  # noqa: N815 - as http.server calls them

        def log_message(self, *_arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    heard = Overheard(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield heard
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
