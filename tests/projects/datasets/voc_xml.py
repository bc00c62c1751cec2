"""Annotations as VOC writes them, and folders read with a small side."""

import pytest

from actiontrack.errors import DataError
from projects.datasets.voc import VocSettings, open_voc

OBJECT = """<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>
<xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax>
</bndbox></object>"""
SIZE = (40, 20)  # width, height


def an_object(name="cat", box=(1, 1, 20, 10), difficult=0):
    return OBJECT.format(name=name, box=box, difficult=difficult)


def xml(*objects, size=SIZE):
    declared = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
    return f"<annotation>{declared}{''.join(objects)}</annotation>"


def load(voc, **changes):
    return open_voc(VocSettings(path=str(voc.root), side=10, **changes))


def fails(voc, **changes):
    with pytest.raises(DataError) as caught:
        load(voc, **changes)
    return str(caught.value)
