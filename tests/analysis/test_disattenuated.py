import pandas as pd
import pytest

from actiontrack.analysis.agreement import ABOVE_ONE, disattenuated_correlations
from actiontrack.analysis.comparison import Comparison
from actiontrack.reporting import describe_disattenuated


def compared(cross, same):
    """A comparison of two models whose runs agree that far with themselves and each other."""
    rows = [
        ("cross-model", "a", "b", cross),
        ("same-model", "a", "a", same),
        ("same-model", "b", "b", same),
    ]
    groups = pd.DataFrame(rows, columns=["kind", "model_a", "model_b", "mean"])
    groups = groups.assign(**{"method": "spearman", "class": "overall"})
    empty = pd.DataFrame()
    return Comparison(
        groups=groups, pairs=empty, runs=empty, score="action", note="", up_to_step=None
    )


@pytest.mark.parametrize(
    ("cross", "value", "note"), [(0.6, 1.2, ABOVE_ONE), (0.4, 0.8, ""), (0.5, 1.0, "")]
)
def test_an_estimate_above_one_is_kept_with_a_note(cross, value, note):
    frame = disattenuated_correlations(compared(cross, same=0.5))
    assert frame["disattenuated"].tolist() == [pytest.approx(value)]
    assert frame["note"].tolist() == [note]


def test_the_sentence_says_that_an_estimate_is_above_one():
    sentence = describe_disattenuated(disattenuated_correlations(compared(0.6, same=0.5)))
    assert sentence == (
        "Spearman's ρ overall: a / b 0.600 becomes 1.200 "
        "(above 1: too few runs or samples for a better estimate)."
    )
