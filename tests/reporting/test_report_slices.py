"""Slices in the report of a run, of several runs, and the factors of a model card."""

import numpy as np
import pandas as pd
import pytest
from report_sections import headings, section

from actiontrack.analysis import slices
from actiontrack.reporting import model_card, query_report, run_report
from actiontrack.testing import make_history

HEADING = "Slices: bias by attribute"


@pytest.fixture
def history():
    return make_history(n_steps=4, n_samples=240, n_classes=3)


@pytest.fixture
def frame(history):
    """By night are the 80 samples of the largest sums of losses; the camera says nothing."""
    action = history.losses.astype(float).sum(axis=0)
    night = action >= np.sort(action)[-80]
    return pd.DataFrame(
        {
            "sample_id": history.sample_ids,
            "light": np.where(night, "night", "day"),
            "camera": [f"c{number % 2}" for number in range(240)],
        }
    )


@pytest.fixture
def sliced(record, frame):
    slices.add_metadata(record, frame)
    return record


def test_without_attributes_there_is_no_section(record):
    assert HEADING not in headings(run_report(record))
    assert "Attributes of the samples" not in model_card(record)


def test_the_first_row_is_the_planted_group_and_the_summary_says_so(sliced):
    report = run_report(sliced)
    part = section(report, HEADING)
    assert part.frame["slice"][0] == "light = night"
    assert part.frame["n"][0] == 80
    assert len(part.frame) <= 10
    assert "The hardest is light = night (80 samples)" in section(report, "Summary").text


def test_several_runs_have_one_section_over_all_of_them(sliced, recorded_history, store, history):
    second = store.open_record(recorded_history(history, "softmax"))
    report = query_report([sliced, second], n_bootstrap=0)
    text = section(report, HEADING).text
    assert "ranks averaged over 2 runs" in text
    assert text.partition(" Samples are compared")[0] in section(report, "Summary").text


def test_attributes_that_form_no_groups_are_told(record, frame):
    slices.add_metadata(record, frame[["sample_id"]].assign(camera="front"))
    part = section(run_report(record), HEADING)
    assert part.frame is None
    assert "has one group only (front)" in part.text


def part_of(card, start, end):
    return card.partition(start)[2].partition(end)[0]


def test_the_factors_of_the_card_are_the_groups_and_their_sizes(sliced):
    factors = part_of(model_card(sliced), "## Factors", "## Metrics")
    assert "Attributes of the samples: light, camera." in factors
    for row in ("light | day | 160", "light | night | 80", "camera | c0 | 120"):
        assert f"| {row} |" in factors


def test_unitary_results_are_those_of_each_group(sliced, history, frame):
    unitary = part_of(model_card(sliced), "### Unitary results", "### Intersectional")
    night = (frame["light"] == "night").to_numpy()
    correct = history.measures["correct"][-1][night].mean()
    [row] = [line for line in unitary.splitlines() if line.startswith("| light = night |")]
    cells = [cell.strip().replace("\\", "") for cell in row.strip("|").split("|")]
    assert cells[1] == "80"
    assert float(cells[2]) == pytest.approx(correct, abs=1e-4)
    action = history.losses.astype(float).sum(axis=0)[night]
    assert float(cells[3]) == pytest.approx(np.median(action), rel=1e-3)
    assert sum(line.startswith(("| light = ", "| camera = ")) for line in unitary.splitlines()) == 4


def test_intersectional_results_are_those_of_pairs(sliced, frame):
    parts = part_of(model_card(sliced), "### Intersectional results", "## Ethical")
    both = int(((frame["light"] == "night") & (frame["camera"] == "c0")).sum())
    rows = [line.replace("&amp;", "&") for line in parts.splitlines()]
    assert any(line.startswith(f"| light = night & camera = c0 | {both} |") for line in rows)
