"""Looking into a report."""

import numpy as np
import pandas as pd


def headings(report):
    return [each.heading for each in report.sections]


def section(report, heading):
    return next(each for each in report.sections if each.heading == heading)


def two_kinds_of_boxes():
    sides = {"left": 2, "top": 0, "right": 6, "bottom": 4, "width": 8, "height": 4}
    rows = [
        {"sample_id": "a", "kind": "truth", "class": "cat", "score": np.nan},
        {"sample_id": "a", "kind": "predicted", "class": "dog", "score": 0.9},
        {"sample_id": "a", "kind": "predicted", "class": "dog", "score": 0.2},
    ]
    return pd.DataFrame([row | sides for row in rows])
