"""The page that compares runs: its views agree with the API, and no comparison is a dead end."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from pages_html import ROOT, Html, ids_of
from records import N_TEST

from actiontrack.testing import make_history, record_history


def test_the_heat_map_has_the_values_of_the_api(page, get, runs):
    several = [runs[each] for each in ("linear-0", "linear-1", "mlp-0", "mlp-1")]
    body = get("correlations", run=several, method="spearman")
    at = body["columns"].index("mean")
    expected = sorted(f"{row[at]:.2f}" for row in body["rows"])
    text = page("compare", run=several).text
    shown = re.findall(r"\d\.\d\d(?= ?…)", text)
    assert sorted(shown) == expected


def test_intervals_come_with_the_second_request(page, runs):
    several = [runs["linear-0"], runs["mlp-0"]]
    (first,) = page("compare", run=several).all("div", id="heat")
    assert first["hx-trigger"] == "load"
    html = page("compare", **parse_qs(urlsplit(first["hx-get"]).query))
    assert "hx-get" not in html.all("div", id="heat")[0]
    assert re.search(r"\d\.\d\d to \d\.\d\d", html.text)


def test_runs_that_differ_in_their_samples_are_refused_with_a_reason(page, runs):
    text = page("compare", run=[runs["mlp-0"], runs["detection"]]).text
    assert "loss" in text
    assert "Correlations" in text  # the other views can still be chosen


def test_a_region_holds_the_samples_in_it(page, get, runs):
    several = [runs["linear-0"], runs["mlp-0"]]
    body = get("pairs", run=several, per_page=N_TEST)
    named = [dict(zip(body["columns"], row, strict=True)) for row in body["rows"]]
    inside = [each for each in named if 5 <= each["score_a"] <= 20 and each["score_b"] <= 6]
    inside.sort(key=lambda each: -each["score_a"])
    wanted = {"run": several, "view": "scatter", "x0": 5, "x1": 20, "y1": 6, "per_page": 200}
    assert ids_of(page("compare", **wanted)) == [str(each["sample_id"]) for each in inside]


def test_action_and_entropy_of_one_run_or_of_all(page, runs):
    several = [runs["mlp-0"], runs["mlp-1"]]
    for of, expected in (("all", several), ("2", [runs["mlp-1"]])):
        html = page("compare", run=several, view="entropy", of=of)
        (chart,) = html.all("div", **{"data-chart": "scatter"})
        assert parse_qs(urlsplit(chart["data-source"]).query)["run"] == expected


def test_entropy_of_a_record_without_it_says_so(page, runs):
    assert "holds no entropy" in page("compare", run=runs["regression"], view="entropy").text


def test_runs_of_one_model_have_no_contrast(page, runs):
    html = page("compare", run=[runs["mlp-0"], runs["mlp-1"]], view="contrasts")
    assert "Add a run of another model" in html.text


def test_contrasts_are_those_of_the_api(page, get, runs):
    several = [runs["mlp-0"], runs["linear-0"]]
    body = get("contrasts", run=several, n=36)
    named = [dict(zip(body["columns"], row, strict=True)) for row in body["rows"]]
    expected = [str(each["sample_id"]) for each in named if each["hard_for"] == "mlp"]
    html = page("compare", run=several, view="contrasts", hard="mlp")
    assert ids_of(html) == expected


# Rows that were picked


@pytest.fixture
def two_records(record_once, store, spool):
    """Two runs with a record of the test data and one of the training data each."""
    histories = [make_history(split=split) for split in ("test", "train")]

    def fill(run_id):
        for history in histories:
            record_history(history, run_id, store, spool)

    return [record_once(histories, fill, run_name=name) for name in ("first", "second")]


def test_picked_rows_are_compared_by_the_record_that_was_picked(two_records, store, make_client):
    client = make_client(store)
    picks = "&".join(f"pick={run_id}:train-probe" for run_id in two_records)
    answer = client.get(f"{ROOT}compare?{picks}", follow_redirects=True)
    query = parse_qs(answer.request.query_string.decode())
    assert query == {"run": two_records, "record": ["train-probe"]}
    html = Html(answer.get_data(as_text=True))
    (chart,) = html.all("div", **{"data-chart": "quantiles"})
    assert parse_qs(urlsplit(chart["data-source"]).query)["record"] == ["train-probe"]
    names = [option for tag, option in html.elements if tag == "option" and "selected" in option]
    assert names  # the record and the score that are compared


def test_the_page_of_runs_has_a_row_to_pick_for_each_record(two_records, store, make_client, page):
    html = page(client=make_client(store), q=two_records[0])
    picks = [box["value"] for box in html.all("input", name="pick")]
    assert picks == [f"{two_records[0]}:{record}" for record in ("test-probe", "train-probe")]


def test_rows_of_different_records_are_not_compared(two_records, store, make_client, page):
    picks = [
        f"{run}:{record}"
        for run, record in zip(two_records, ("test-probe", "train-probe"), strict=True)
    ]
    html = page("compare", status=400, client=make_client(store), pick=picks)
    assert "must be rows of one record" in html.text


# Runs of different lengths


@pytest.fixture
def of_two_lengths(recorded_history):
    """Two runs on the same samples, of four and of six epochs."""
    return [recorded_history(make_history(n_steps=steps, n_samples=40)) for steps in (4, 6)]


def test_runs_of_different_lengths_are_compared_up_to_a_step(
    of_two_lengths, store, make_client, page
):
    client = make_client(store)
    html = page("compare", client=client, run=of_two_lengths)
    assert "different lengths" in html.text
    (field,) = html.all("input", name="up_to_step")
    assert field["value"] == ""
    (link,) = [one["href"] for one in html.all("a") if "up_to_step" in one.get("href", "")]
    html = page("compare", client=client, **parse_qs(urlsplit(link).query))
    assert html.all("input", name="up_to_step")[0]["value"] == "4"
    assert html.all("table", **{"class": "heat"})
    (chart,) = html.all("div", **{"data-chart": "quantiles"})
    assert parse_qs(urlsplit(chart["data-source"]).query)["up_to_step"] == ["4"]
    assert client.get(chart["data-source"]).status_code == 200


@pytest.mark.parametrize("view", ["correlations", "scatter", "contrasts"])
def test_every_view_of_scores_takes_the_step(of_two_lengths, store, make_client, page, view):
    html = page("compare", client=make_client(store), run=of_two_lengths, view=view, up_to_step=4)
    assert not html.all("div", **{"class": "note warn"})


def test_runs_of_one_length_need_no_step(page, runs):
    assert not page("compare", run=[runs["mlp-0"], runs["mlp-1"]]).all("input", name="up_to_step")
