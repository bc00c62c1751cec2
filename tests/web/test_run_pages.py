"""The pages of runs, of a run and of a sample: what they show and where they lead."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from pages_html import ids_of
from records import N_TEST, NAMES

from actiontrack.store import Store

# Runs


def test_an_incomplete_record_is_marked(page):
    html = page(state="incomplete")
    assert "stopped" in html.text
    assert "incomplete" in html.text
    assert "mlp-0" not in html.text


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"q": "MLP"}, {"mlp-0", "mlp-1"}),
        ({"model": ["guess", "pixelwise"]}, {"boxes", "foreground"}),
        ({"tag": "owner=ada", "model": "linear"}, {"linear-0", "linear-1"}),
        ({"experiment": "<i>hostile</i>"}, {"linear-7"}),
        ({"dataset": "digits", "state": "incomplete"}, {"stopped"}),
    ],
)
def test_filters_choose_runs(page, parameters, expected):
    boxes = page(**parameters).all("input", type="checkbox", name="pick")
    assert {each["aria-label"] for each in boxes} == {
        f"Compare {name}, test-probe" for name in expected
    }


def test_filters_that_let_nothing_through_say_how_to_go_on(page):
    assert "Remove one of them" in page(q="no such run").text


def test_a_store_without_records_says_how_to_record(page, empty_database, make_client, tmp_path):
    path = tmp_path / "mlflow.db"
    path.write_bytes(empty_database.read_bytes())
    client = make_client(Store(f"sqlite:///{path}"))
    assert "make train" in page(client=client).text
    assert "Pick them on the page" in page("compare", client=client).text


# A run and its samples


def test_samples_come_in_the_order_of_the_api(page, get, runs):
    wanted = {"run": runs["mlp-0"], "order": "easiest", "score": "aum", "per_page": 24, "page": 2}
    body = get("scores", **wanted)
    at = body["columns"].index("sample_id")
    assert ids_of(page("run", **wanted)) == [str(row[at]) for row in body["rows"]]


def test_pages_hold_every_sample_once(page, runs):
    pages = [page("run", run=runs["mlp-0"], page=each) for each in range(1, 6)]
    found = [each for html in pages for each in ids_of(html)]
    assert sorted(map(int, found)) == list(range(N_TEST))


def test_filters_choose_samples(page, get, runs):
    wanted = {"run": runs["mlp-0"], "class": ["one", "six"], "correct": "wrong", "low": 20}
    body = get("scores", **wanted)
    assert 0 < body["total"] < N_TEST
    assert len(ids_of(page("run", **wanted))) == body["total"]


def test_filters_go_along_to_a_sample_and_back(page, runs):
    wanted = {"run": runs["mlp-0"], "class": "one", "correct": "wrong", "order": "easiest"}
    tile = page("run", **wanted).all("a", **{"class": "tile"})[1]
    html = page("sample", **parse_qs(urlsplit(tile["href"]).query))
    (up,) = html.all("a", **{"data-keys": "u"})
    query = parse_qs(urlsplit(up["href"]).query)
    assert query == {key: [value] for key, value in wanted.items()} | {"record": ["test-probe"]}
    assert "2 of" in html.text


def test_previous_and_next_follow_the_order(page, runs):
    wanted = {"run": runs["mlp-0"], "correct": "wrong", "order": "easiest"}
    ids = ids_of(page("run", **wanted))
    html = page("sample", id=ids[1], **wanted)
    around = [html.all("a", rel=each)[0]["href"] for each in ("prev", "next")]
    assert [parse_qs(urlsplit(each).query)["id"][0] for each in around] == [ids[0], ids[2]]


def test_a_sample_that_the_filters_leave_out_is_shown_all_the_same(page, runs):
    html = page("sample", run=runs["mlp-0"], id=3, high=0.001)
    assert "hidden by the filters" in html.text


def test_a_wrong_label_is_told_with_the_truth(page, get, runs):
    body = get(
        "scores", run=runs["mlp-0"], per_page=N_TEST, columns=["sample_id", "label", "true_label"]
    )
    wrong = next(row for row in body["rows"] if row[1] != row[2])
    assert "label is wrong" in page("sample", run=runs["mlp-0"], id=wrong[0]).text


def test_a_right_prediction_of_a_wrong_label_is_called_right(page, get, runs):
    columns = ["sample_id", "label", "true_label", "predicted"]
    body = get("scores", run=runs["mlp-0"], per_page=N_TEST, columns=columns)
    sample = next(row[0] for row in body["rows"] if row[1] != row[2] == row[3])
    html = page("sample", run=runs["mlp-0"], id=sample)
    assert html.all("span", **{"class": "badge right"})
    assert "as labelled" not in html.text


def test_a_training_run_says_how_many_labels_are_wrong(page, get, runs):
    html = page("run", run=runs["training"])
    n, low, high = map(
        int, re.search(r"About (\d+) of 500 labels .* \((\d+) to (\d+)\)", html.text).groups()
    )
    body = get("wrong_labels", run=runs["training"])
    row = dict(zip(body["columns"], body["rows"][0], strict=True))
    assert [n, low, high] == [round(row[each]) for each in ("n_wrong", "low", "high")]
    assert low <= 50 <= high  # every tenth


@pytest.mark.parametrize("name", ["mlp-0", "regression", "stopped", "segmentation"])
def test_other_runs_say_nothing_about_their_labels(page, runs, name):
    assert "are wrong" not in page("run", run=runs[name]).text


def test_a_table_names_the_suggested_class_with_probabilities_in_percent(page, get, runs):
    parameters = {"run": runs["training"], "score": "p_wrong", "per_page": 24}
    html = page("run", show="table", **parameters)
    columns = ["sample_id", "p_wrong", "suggested_class", "p_suggested"]
    body = get("scores", columns=columns, **parameters)
    text = re.sub(r"[ \n]+", " ", html.text)
    for sample, p_wrong, suggested, p_suggested in body["rows"]:
        row = re.search(
            rf" {sample} (\w+) (\w+) not as labelled (\w+) (\S+ ?%) .*?(\S+ %)",
            text.replace("\u00a0", " ").replace("> ", ">"),
        )
        assert row.group(3) == NAMES[suggested]
        for shown, value in ((row.group(4), p_suggested), (row.group(5), p_wrong)):
            assert abs(float(shown.strip(">% ")) - 100 * value) <= 0.11


def test_a_tile_names_a_likely_class_that_the_model_no_longer_predicts(page, get, runs):
    columns = ["sample_id", "predicted", "suggested_class", "p_wrong"]
    body = get("scores", run=runs["training"], per_page=500, columns=columns)
    expected = [row[0] for row in body["rows"] if row[3] >= 0.5 and row[1] != row[2]]
    html = page("run", run=runs["training"], per_page=500)
    assert html.text.count("suggested ") == len(expected)


def test_a_sample_page_names_the_suggested_class(page, runs):
    text = re.sub(r"\s+", " ", page("sample", run=runs["training"], id=60).text)
    assert re.search(r"Suggested class\s*three, (> )?9\d\.?\d* %", text)
    assert re.search(r"Label is wrong\s*(> )?9\d\.?\d* %", text)
    assert re.search(r"p_wrong (> )?9\d\.?\d* %", text)
    assert "Suggested" not in page("sample", run=runs["regression"], id="house 3").text


def test_ranks_are_told_for_every_score(page, get, runs):
    body = get("scores", run=runs["mlp-0"], score="final_loss", per_page=7)
    at = body["columns"].index("sample_id")
    html = page("sample", run=runs["mlp-0"], id=body["rows"][6][at])
    row = re.search(r"final_loss\s+(\S+)\s+(\d+)", re.sub(r"\s+", " ", html.text))
    assert row.group(2) == "7"


def test_other_runs_on_the_same_samples_are_drawn_beside(page, runs):
    (curve,) = page("sample", run=runs["mlp-0"], id=3).all("div", **{"data-chart": "curves"})
    drawn = parse_qs(urlsplit(curve["data-source"]).query)["run"]
    assert drawn[0] == runs["mlp-0"]
    assert set(drawn) == {runs[each] for each in ("mlp-0", "mlp-1", "linear-0", "linear-1")}


def test_a_segmented_sample_has_its_map_and_pictures(page, runs):
    html = page("sample", run=runs["segmentation"], id=3)
    sources = [each["src"] for each in html.all("img")]
    assert any("/api/map?" in each for each in sources)
    assert sum("/api/picture?" in each for each in sources) == 2


def test_a_detected_sample_has_its_boxes(page, get, runs):
    body = get("boxes", run=runs["detection"], id=3)
    rects = page("sample", run=runs["detection"], id=3).all("rect")
    assert [each["class"] for each in rects] == ["truth", "prediction"]
    columns = [body["columns"].index(each) for each in ("left", "top")]
    assert [(float(each["x"]), float(each["y"])) for each in rects] == [
        tuple(float(row[at]) for at in columns) for row in body["rows"]
    ]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("regression", "have no labels"),
        ("regression", "no images of these samples"),
        ("stopped", "was interrupted"),
        ("stopped", "three epochs"),
    ],
)
def test_a_run_page_says_what_is_missing(page, runs, name, sentence):
    assert sentence in page("run", run=runs[name]).text


def test_a_sample_page_says_what_is_missing(page, runs):
    text = page("sample", run=runs["regression"], id="house 3").text
    assert "holds no features" in text
    assert "No other run" in text
    assert "no images" in text


def test_filters_that_no_sample_passes_say_how_to_go_on(page, runs):
    assert "show all samples" in page("run", run=runs["mlp-0"], low=1e6).text
