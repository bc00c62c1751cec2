"""A real browser on the pages: the system's Chromium, and windows that remember complaints."""

import os
import shutil
from urllib.parse import parse_qs, urlencode, urlsplit

from playwright.sync_api import expect

NAMES_OF_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES_OF_BROWSERS)), None)
NO_BROWSER = "no Chromium is installed (apt-get install chromium)"
REQUIRED = bool(os.environ.get("CI")) or os.environ.get("ACTIONTRACK_BROWSER") == "required"
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
MODELS = ("linear-0", "linear-1", "mlp-0", "mlp-1")
WAITING = ".chart.waiting, [hx-trigger=load], .htmx-request"
expect.set_options(timeout=20_000)  # a machine that does other things beside


class Window:
    """A tab of the browser that remembers what the pages complained about."""

    def __init__(self, context, root):
        self.root, self.complaints, self.strangers = root, [], []
        self.context, self.page = context, context.new_page()
        self.page.set_default_timeout(15_000)
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(f"dialog {dialog.message}"))
        self.page.on("request", self._on_request)

    def open(self, name="", **parameters):
        """Open a page and wait until everything on its screen is there."""
        query = f"?{urlencode(parameters, doseq=True)}" if parameters else ""
        self.page.goto(f"{self.root}/actiontrack/{name}{query}")
        return self.settled()

    def renew(self):
        """Be as a new window: nothing of what went before is stored, shown or remembered."""
        if self.page.url.startswith(self.root):
            self.page.unroute_all()
            self.page.evaluate("() => localStorage.clear()")
            self.context.clear_cookies()
            self.page.goto("about:blank")
            self.page.set_viewport_size(DESKTOP)
            self.page.mouse.move(0, 0)
        self.complaints.clear()
        self.strangers.clear()

    def settled(self):
        expect(self.page.locator("html[data-ready=true]")).to_be_attached()
        return self.page

    def back(self):
        """Go back; a page that htmx has changed is loaded anew."""
        with self.page.expect_event("load"):
            self.page.evaluate("() => history.back()")
        return self.settled()

    def draw_all(self):
        """Make the window as tall as the page, so that every chart is drawn."""
        width = self.page.viewport_size["width"]
        height = self.page.evaluate("() => document.documentElement.scrollHeight")
        self.page.set_viewport_size({"width": width, "height": min(height + 400, 10_000)})
        expect(self.page.locator(WAITING)).to_have_count(0)

    @property
    def query(self):
        return parse_qs(urlsplit(self.page.url).query)

    def samples(self):
        """Ids of the samples on the page, in order."""
        links = self.page.locator("#results a.tile").evaluate_all(
            "found => found.map(each => each.getAttribute('href'))"
        )
        return [parse_qs(urlsplit(each).query)["id"][0] for each in links]

    def api(self, path, **parameters):
        """Rows of a table of the API, as dictionaries."""
        query = urlencode({"per_page": 1000} | parameters, doseq=True)
        answer = self.page.request.get(f"{self.root}/actiontrack/api/{path}?{query}").json()
        return [dict(zip(answer["columns"], row, strict=True)) for row in answer["rows"]]

    def drag(self, locator, start, end):
        """Drag over an element, from and to shares of its width and height."""
        locator.scroll_into_view_if_needed()
        box = locator.bounding_box()
        places = [
            (box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end)
        ]
        mouse = self.page.mouse
        mouse.move(*places[0])
        mouse.down()
        mouse.move(*places[1], steps=6)
        mouse.up()

    def _on_console(self, message):
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)

    def _on_request(self, request):
        if not request.url.startswith((self.root, "data:", "blob:")):
            self.strangers.append(request.url)
