"""The page of slices: what it lists, draws and leads to, and the samples of a slice."""

from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from records import N_TEST, attributes

from actiontrack.analysis import slices
from actiontrack.store import Store


@pytest.fixture(scope="module")
def frame(recorded, runs):
    """The attributes of mlp-0, as they were made."""
    return attributes(Store(recorded[0]).open_record(runs["linear-0"]))


@pytest.fixture(scope="module")
def torn(frame):
    return set(frame.loc[frame["scan"] == "torn", "sample_id"])


def listed(html):
    """Names of the slices whose samples a page leads to, in order."""
    links = [urlsplit(link) for link in html.links()]
    return [parse_qs(link.query)["slice"][0] for link in links if link.fragment == "samples"]


def test_the_table_is_that_of_the_analysis_hardest_first(page, runs, records):
    record = records.open(runs["mlp-0"])
    sample_set = slices.sliced([record], slices.read_metadata(record))
    expected = slices.slices(sample_set, false_discovery_rate=1.0).table
    html = page("slices", run=runs["mlp-0"], show="all")
    assert listed(html) == expected["slice"].tolist()
    first = expected.iloc[0]
    assert f"{first['slice']} {first['n']} " in html.text


def test_only_what_differs_is_listed_at_first(page, runs):
    html = page("slices", run=runs["mlp-0"])
    assert "Of 12 slices of 200 samples" in html.text
    assert listed(html)[0] == "scan = torn"
    assert len(listed(html)) < 12


def test_a_strip_says_in_words_what_it_draws(page, runs, records, torn):
    record = records.open(runs["mlp-0"])
    history = record.history()
    action, labels = history.losses.sum(axis=0), history.labels
    ranks = np.array([
        np.mean(action[labels == label] < value) + 0.5 / np.sum(labels == label)
        for value, label in zip(action, labels, strict=True)
    ])  # fmt: skip
    mean = ranks[sorted(torn)].mean()
    text = page("slices", run=runs["mlp-0"]).text
    assert f"Ranks of {len(torn)} samples within their classes, from 0, the easiest" in text
    assert f"mean {mean:.2f}, middle half" in text


def test_a_slice_leads_to_its_samples(site, page, runs, torn):
    [link] = [one for one in page("slices", run=runs["mlp-0"]).links() if "=scan+%3D+torn#" in one]
    assert link.startswith("/actiontrack/run?")
    answer = site.get(
        "/actiontrack/api/scores",
        query_string={"run": runs["mlp-0"], "slice": "scan = torn", "per_page": 500},
    ).get_json()
    place = answer["columns"].index("sample_id")
    assert {row[place] for row in answer["rows"]} == torn


def test_two_slices_together_hold_what_both_hold(get, runs, torn):
    both = get("scores", run=runs["mlp-0"], slice=["scan = torn", "class = one"])["rows"]
    pair = get("scores", run=runs["mlp-0"], slice="scan = torn & class = one")["rows"]
    ones = get("scores", run=runs["mlp-0"], **{"class": "one"}, per_page=500)["rows"]
    assert both == pair
    assert 0 < len(both) < min(len(ones), len(torn))


def test_the_gallery_of_a_slice_names_it_and_lets_it_go(page, runs, torn):
    text = page("run", run=runs["mlp-0"], slice="scan = torn").text
    assert "scan = torn" in text
    assert f"{len(torn)} samples" in text
    assert f"{N_TEST} samples" in page("run", run=runs["mlp-0"]).text


def test_a_sample_keeps_the_slice_that_it_was_reached_by(page, runs, torn):
    text = page("sample", run=runs["mlp-0"], id=sorted(torn)[0], slice="scan = torn").text
    assert f"of {len(torn)}" in text


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"attribute": "scan"}, "Of 2 slices"),
        ({"pairs": "false"}, "Of 7 slices"),
        ({"min_size": 40}, "Of 5 slices"),
        ({"score": "final_loss"}, "scan = torn"),
    ],
)
def test_a_choice_in_the_address_is_obeyed(page, runs, parameters, words):
    assert words in page("slices", run=runs["mlp-0"], **parameters).text


def test_without_attributes_the_page_says_how_to_add_some(page, runs):
    text = page("slices", run=runs["linear-0"]).text
    assert f"actiontrack metadata --run {runs['linear-0']} --record test-probe --file" in text


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"score": "none"}, "score: must be one of"),
        ({"min_size": 2}, "min_size: must be at least 5"),
        ({"attribute": "camera"}, "must come from scan, ink"),
    ],
)
def test_a_wrong_choice_is_refused(page, runs, parameters, words):
    assert words in page("slices", 400, run=runs["mlp-0"], **parameters).text


def test_no_slice_is_large_enough_says_so(page, runs):
    text = page("slices", run=runs["mlp-0"], min_size=500).text
    assert "No slice of the 200 samples has 500 of them" in text


def test_an_unknown_slice_is_refused(get, runs):
    answer = get("scores", 400, run=runs["mlp-0"], slice="scan = burnt")
    assert "must be made of groups such as" in answer["error"]["message"]


def test_a_slice_of_a_record_without_attributes_is_refused(get, runs):
    assert (
        "has no metadata"
        in get("scores", 404, run=runs["linear-0"], slice="a = b")["error"]["message"]
    )
