"""Pages as HTML: their elements and text, without a browser."""

from html.parser import HTMLParser
from urllib.parse import parse_qs, urlsplit

ROOT = "/actiontrack/"
LINKS = ("href", "src", "hx-get", "data-source")
VOID = {"area", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "rect"}


class Html(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self._open = [], "", []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.text += " " if tag in {"td", "th", "small"} else ""
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self._open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        self.text += data

    def all(self, tag, **attributes):
        return [
            found
            for name, found in self.elements
            if name == tag and all(found.get(key) == value for key, value in attributes.items())
        ]

    def links(self):
        return [
            value
            for tag, found in self.elements
            for key, value in found.items()
            if tag != "form" and key in LINKS and not value.startswith("#")
        ]


def ids_of(html):
    """Ids of the samples that a page links to, in order."""
    links = [tile["href"] for tile in html.all("a", **{"class": "tile"})]
    return [parse_qs(urlsplit(link).query)["id"][0] for link in links]
