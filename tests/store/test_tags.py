"""The manifest in the tags of a run is the one in its file, or none."""

import base64
import json
import secrets
import zlib
from dataclasses import replace

import pytest

from actiontrack.errors import RecordingError
from actiontrack.record.manifest import manifest_checksum
from actiontrack.recorder import Recorder
from actiontrack.store.tags import ELSEWHERE, MANIFEST_TAG, listed_manifest, record_tags

TAG = f"{MANIFEST_TAG}test-probe"


def with_tag(run, text):
    return replace(run, tags={**run.tags, TAG: text})


def packed(content):
    return base64.b64encode(zlib.compress(content)).decode()


def test_a_complete_record_has_its_manifest_in_a_tag_and_in_its_file(store, recorded):
    run = store.get_run(recorded())
    path = store.open_record(run).fetch("manifest.json")
    assert zlib.decompress(base64.b64decode(run.tags[TAG])) == path.read_bytes()
    assert listed_manifest(run, "test-probe") == store.open_record(run).manifest


def test_a_record_that_grows_is_told_by_its_file_alone(store, run_id):
    with Recorder(store=store, run_id=run_id) as recorder:
        recorder.update([1, 2], [0.5, 0.25])
        recorder.end_epoch()
        recorder._writer.uploader.drain(20)
        run = store.get_run(run_id)
        assert run.tags[TAG] == ELSEWHERE
        assert listed_manifest(run, "test-probe") is None
    assert listed_manifest(store.get_run(run_id), "test-probe").n_steps == 1


def test_a_manifest_of_more_than_5000_characters_is_in_its_file_alone(store, recorded):
    manifest = store.open_record(recorded()).manifest
    names = [secrets.token_hex(8) for _ in range(400)]  # 3200 bytes that nothing makes shorter
    assert len(record_tags(replace(manifest, class_names=tuple(names[:300])))[TAG]) <= 5000
    assert record_tags(replace(manifest, class_names=tuple(names)))[TAG] == ELSEWHERE


def test_who_continues_a_complete_record_takes_its_manifest_out_of_the_tags(store, recorded):
    run_id = recorded()
    store.claim_record(run_id, "test-probe", [store.get_run(run_id).writer("test-probe"), "me (1)"])
    assert store.get_run(run_id).tags[TAG] == ELSEWHERE


def test_a_refused_writer_leaves_the_tags_as_they_are(store, recorded):
    run_id = recorded()
    before = store.get_run(run_id).tags
    store.set_tags(run_id, {"actiontrack.writer.test-probe.2": "other (2)"})
    with pytest.raises(RecordingError):
        store.claim_record(run_id, "test-probe", ["me (1)"])
    assert store.get_run(run_id).tags[TAG] == before[TAG]


def altered(content):
    return content.replace(b'"n_samples": ', b'"n_samples": 1')


def named_otherwise(content):
    body = json.loads(content) | {"split": "train"}
    return json.dumps(body | {"checksum": manifest_checksum(body)}).encode()


TEXTS = {
    "empty": lambda _content: "",
    "no base64": lambda _content: "in words, and with 'quotes'",
    "not compressed": lambda content: base64.b64encode(content).decode()[:5000],
    "cut": lambda content: packed(content)[:-8],
    "no JSON": lambda content: packed(content[:-8]),
    "altered": lambda content: packed(altered(content)),
    "of another record": lambda content: packed(named_otherwise(content)),
    "too long": lambda content: packed(content + b" " * 10_000_000),
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_a_tag_that_holds_no_whole_manifest_of_the_record_is_passed_over(store, recorded, text):
    run = store.get_run(recorded())
    content = store.open_record(run).fetch("manifest.json").read_bytes()
    assert listed_manifest(with_tag(run, packed(content)), "test-probe") is not None
    assert listed_manifest(with_tag(run, text(content)), "test-probe") is None


def test_the_tags_of_earlier_versions_hold_no_manifest(store, recorded):
    run = store.get_run(recorded())
    earlier = {name: text for name, text in run.tags.items() if name != TAG}
    assert listed_manifest(replace(run, tags=earlier), "test-probe") is None
