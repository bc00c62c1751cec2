"""Sentences come from one place that draws nothing."""

import pandas as pd
import pytest

from actiontrack import reporting
from actiontrack.analysis import sentences

PAGES = """
import sys
import actiontrack.web.app
print([name for name in ("seaborn", "matplotlib.pyplot") if name in sys.modules])
"""


def test_a_page_server_writes_its_sentences_without_a_library_that_draws(in_subprocess):
    assert in_subprocess(PAGES).stdout == "[]\n"


def test_reports_re_export_the_sentences_of_the_analysis():
    names = [name for name in sentences.__all__ if name.startswith("describe_")]
    assert len(names) == 14
    assert all(getattr(reporting, name) is getattr(sentences, name) for name in names)


WIDE = (
    " The range is wide: the network came to agree with labels that it contradicted at first. If "
    "it learnt wrong labels by heart, more are wrong than this: look at the number up to an "
    "earlier step."
)


@pytest.mark.parametrize(
    ("numbers", "sentence"),
    [
        (
            (50_000, 4656.2, 4171.4, 4932.0),
            "About 4,660 of 50,000 labels are wrong (4,170 to 4,930).",
        ),
        ((1797, 0.9, 0.2, 1.4), "About 1 of 1,797 labels is wrong (0 to 1)."),
        (
            (50_000, 3000.0, 1200.0, 4900.0),
            f"About 3,000 of 50,000 labels are wrong (1,200 to 4,900).{WIDE}",
        ),
        (
            (0, float("nan"), float("nan"), float("nan")),
            "No label could be judged: a step lacks every sample, or there are over 2,048 classes.",
        ),
    ],
    ids=["close", "one", "far", "none"],
)
def test_a_number_of_wrong_labels_is_told_as_an_estimate(numbers, sentence):
    columns = ["n_samples", "n_wrong", "low", "high"]
    counts = pd.DataFrame([numbers], columns=columns).assign(run_name="a")
    assert sentences.describe_wrong_labels(counts) == sentence
    both = sentences.describe_wrong_labels(pd.concat([counts, counts]))
    assert both == f"a: {sentence} a: {sentence}"
