"""The page of the tokens of a document: their texts, tones that follow the losses, its links."""

import re

import numpy as np
import pytest
from pages_html import Html
from records import HOSTILE

from actiontrack.analysis import token_actions
from actiontrack.store import Store


@pytest.fixture
def page(site, runs):
    def ask(sample, status=200):
        query = {"run": runs["language"], "id": sample}
        answer = site.get("/actiontrack/tokens", query_string=query)
        assert answer.status_code == status, answer.get_data(as_text=True)
        return answer.get_data(as_text=True)

    return ask


@pytest.fixture
def tokens(recorded):
    uri, runs = recorded
    return lambda sample: token_actions(Store(uri).open_record(runs["language"]), sample)


def marks(text):
    """Tone and title of each coloured token."""
    body = text.split('aria-label="Text of the document"')[1]
    return re.findall(r'<mark class="t(\d+)" title="([^"]*)">', body)


def test_each_token_has_a_tone_that_grows_with_its_accumulated_loss(page, tokens):
    expected = tokens(0)["action"].to_numpy()
    tones = [int(tone) for tone, _ in marks(page(0))]
    shares = expected[1:] / np.nanmax(expected)  # the first word is predicted by nothing
    assert tones == [round(20 * float(share)) for share in shares]
    assert max(tones) == 20


def test_the_accumulated_loss_is_the_sum_over_epochs(page, tokens, recorded):
    uri, runs = recorded
    record = Store(uri).open_record(runs["language"])
    action = record.scores().set_index("sample_id")["action"]
    for sample in (0, 3, 12):
        mean = np.nanmean(tokens(sample)["action"].to_numpy(dtype=float))
        assert mean == pytest.approx(action[sample], rel=1e-5)


def test_a_hostile_text_is_shown_and_nothing_of_it_runs(page):
    text = page(3)
    assert not {"onerror", "script"} & {
        name for _, found in Html(text).elements for name in found if name.startswith("on")
    }
    assert all(found.get("src") for found in Html(text).all("script"))
    assert "<img" not in text.split("<main")[1]
    assert "&lt;img" in text
    assert "&#34;&gt;&lt;script&gt;alert(1)" in text or "&lt;script&gt;alert(1)" in text
    assert HOSTILE[2].replace("&", "&amp;") in text


def test_without_texts_positions_are_shown(page, tokens):
    text = page(12)
    assert "The record holds no texts" in text
    assert tokens(12)["text"].isna().all()
    assert len(marks(text)) == len(tokens(12)) - 1


def test_a_document_whose_tokens_were_not_recorded_says_so(page):
    assert "okens of sample 20 were not recorded" in page(20, status=404)


def test_a_record_of_images_has_no_tokens(site, runs):
    query = {"run": runs["segmentation"], "id": 3}
    answer = site.get("/actiontrack/tokens", query_string=query)
    assert answer.status_code == 404
    assert "holds no losses of tokens" in answer.get_data(as_text=True)


@pytest.mark.parametrize(
    ("sample", "words"), [(0, "Tokens by their loss"), (20, "were not recorded")]
)
def test_the_page_of_a_sample_leads_to_its_tokens(site, runs, sample, words):
    query = {"run": runs["language"], "id": sample}
    text = site.get("/actiontrack/sample", query_string=query).get_data(as_text=True)
    assert words in text
    assert ("/actiontrack/tokens?" in text) == (sample == 0)
    assert "no images of these samples" not in text


def test_scores_hold_perplexity_and_the_number_of_tokens(get, runs):
    table = get("scores", run=runs["language"], per_page=100)
    for values in table["rows"]:
        row = dict(zip(table["columns"], values, strict=True))
        assert row["perplexity"] == pytest.approx(np.exp(row["final_loss"]))
        assert row["n_tokens"] >= 9
        assert "action_n_tokens" not in row
