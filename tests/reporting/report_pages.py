"""Reading the page of a report."""

import html.parser
import io

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from actiontrack.reporting.document import Source

EVIL = '<script>alert("x")</script><img src=x onerror=alert(1)> | [a](javascript:b) `c` *d* {{ e }}'


def png():
    stream = io.BytesIO()
    Image.new("RGB", (3, 2), "red").save(stream, "png")
    return stream.getvalue()


def figure():
    drawing = Figure(layout="constrained")
    drawing.subplots().plot([1, 2, 4])
    return drawing


def table():
    return pd.DataFrame(
        {
            "class": ["cat", "dog"],
            "action": np.array([3.14159, np.nan], np.float32),
            "n": [10000, 2],
        }
    )


class Page(html.parser.HTMLParser):
    """Tags with their attributes, and whether each one is closed."""

    VOID = ("meta", "img")

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.open = [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def source(run_id, record="test-probe"):
    return Source(run_id=run_id, name=f"name of {run_id}", record=record, digest=run_id[0] * 64)


A, B, C = (letter * 32 for letter in "abc")
