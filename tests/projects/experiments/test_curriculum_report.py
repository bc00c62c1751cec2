"""The page of the curriculum experiment, on frames worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from projects.experiments.curriculum_chunks import EASIEST, GREEDY, HARDEST, LEFT_OVER, RANDOM
from projects.experiments.curriculum_report import (
    Results,
    curriculum_report,
    describe_curriculum,
)

SIZES = (10, 20, 30)
REST = {"n_test": 100, "seconds": 1.0, "initial_weights": "same", "chosen": "", "chosen_by": ""}


def trainings(**columns):
    """Rows of trainings; all three accuracies are the same unless they are given."""
    frame = pd.DataFrame(columns)
    for name in ("choosing_accuracy", "held_out_accuracy"):
        if name not in frame:
            frame[name] = frame["accuracy"]
    return frame.assign(**{name: value for name, value in REST.items() if name not in frame})


GREEDY_ROWS = trainings(
    chunk=[1, 0, 2], n_images=SIZES, accuracy=[0.5, 0.7, 0.8], mean_action=[2.0, 4.0, 3.0],
    n_candidates=[3, 2, 1], repeat=[0, 0, 0],
)  # fmt: skip
HELD_OUT_ROWS = trainings(
    chunk=[0, 1, 2], n_images=SIZES, accuracy=[0.3, 0.6, 0.8], mean_action=[1.0, 2.0, 3.0],
    n_candidates=[3, 2, 1], repeat=[0, 0, 0],
)  # fmt: skip
FIXED_ROWS = trainings(
    strategy=[RANDOM] * 5 + [EASIEST] * 3 + [HARDEST] * 3,
    n_images=[10, 10, 20, 20, 30, *SIZES, *SIZES],
    repeat=[0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0],
    accuracy=[0.4, 0.2, 0.6, 0.5, 0.8, 0.45, 0.55, 0.8, 0.1, 0.3, 0.8],
    mean_action=[3.0] * 5 + [1.0, 1.5, 3.0] + [6.0, 4.0, 3.0],
    chunk=[None] * 11,
)
CANDIDATES = trainings(
    chunk=[0, 1, 2], n_images=[10] * 3, accuracy=[0.3, 0.5, 0.4], mean_action=[1.0, 2.0, 6.0],
    repeat=[0, 0, 0],
)  # fmt: skip


@pytest.fixture(scope="module")
def results():
    return Results(
        greedy=GREEDY_ROWS,
        greedy_held_out=HELD_OUT_ROWS,
        fixed=FIXED_ROWS,
        candidates=[CANDIDATES],
        scores=np.array([1.0, 2.0, 6.0, 3.0]),
        chunks=np.array([0, 1, 2, LEFT_OVER]),
        setting="Trained so.",
    )


@pytest.fixture(scope="module")
def sections(results):
    import matplotlib.pyplot as plt

    report = curriculum_report(results)
    yield {section.heading: section for section in report.sections}
    plt.close("all")


def test_the_finding_counts_the_sizes_at_which_the_best_chunk_beats_the_best_random_subset(results):
    # By all test images: .5 - .4 and .7 - .6; by one half: .3 - .4 and .6 - .6.
    finding = describe_curriculum(results)
    assert "On 10 to 20 of 30 images" in finding
    assert "beats the best of 2 random subsets at 2 of 2 sizes (+0.100 on average)" in finding
    assert "measured on the other, at 0 of 2 sizes (-0.050 on average)" in finding


def test_the_finding_compares_the_orders_with_the_mean_of_the_random_subsets(results):
    # Easiest: .45 - .3 and .55 - .55; hardest: .1 - .3 and .3 - .55.
    assert "easiest first +0.075, hardest first -0.225" in describe_curriculum(results)


def test_the_finding_tells_where_the_mean_action_is_highest(results):
    text = "goes from 2 to 3 and is highest at 20 images (4)."
    assert text in describe_curriculum(results)


def test_the_table_by_size_has_each_strategy_the_spread_and_the_gap(sections):
    table = sections["Accuracy as the paper measures it"].frame.set_index("n_images")
    first = table.loc[10]
    assert first[GREEDY] == 0.5
    assert first["random, mean"] == pytest.approx(0.3)
    assert (first["random, lowest"], first["random, highest"]) == (0.2, 0.4)
    assert first["gap to the best random"] == pytest.approx(0.1)
    assert table.index.tolist() == list(SIZES)


def test_the_held_out_table_is_of_the_choice_by_one_half(sections):
    frame = sections["Accuracy on images that have no part in the choice"].frame
    assert frame.set_index("n_images")[GREEDY].tolist() == [0.3, 0.6, 0.8]


def test_the_order_of_both_choices_is_told(sections):
    section = sections["Order of the chunks"]
    assert "Chosen on all test images: 1, 0, 2. Chosen on one half: 0, 1, 2." in section.text
    assert section.frame["chosen on"].tolist() == ["all test images"] * 3 + ["one half"] * 3
    assert section.frame["chunk added"].tolist() == [1, 0, 2, 0, 1, 2]


def test_the_chunks_are_summed_up_with_the_accuracy_of_each_alone(sections):
    section = sections["The chunks"]
    assert section.frame["mean_action"].tolist() == [1.0, 2.0, 6.0]
    assert section.frame["accuracy_alone"].tolist() == [0.3, 0.5, 0.4]
    assert "1 of 4 training images are left over" in section.text


def test_all_trainings_are_listed_and_that_on_all_images_once(sections):
    table = sections["All trainings"].frame
    assert table["strategy"].value_counts().to_dict() == {
        "candidate": 3,
        RANDOM: 4,
        EASIEST: 2,
        HARDEST: 2,
        "all chunks": 1,
    }
    assert table.loc[table["strategy"] == "all chunks", "n_images"].tolist() == [30]


def test_the_standard_error_of_an_accuracy_is_that_of_a_binomial_share(sections):
    text = sections["How to read this"].text
    assert text.startswith("Trained so. Chunk 0 holds")
    whole, half = np.sqrt(0.8 * 0.2 / 100), np.sqrt(0.8 * 0.2 / 50)
    assert f"on 100 test images has a standard error of {whole:.3f}, on the held-out half " in text
    assert f"on the held-out half {half:.3f};" in text


@pytest.mark.parametrize(
    "heading",
    [
        "Accuracy as the paper measures it",
        "Accuracy on images that have no part in the choice",
        "Mean action of the training images",
    ],
)
def test_the_curves_are_drawn(sections, heading):
    assert sections[heading].figure.axes[0].lines
