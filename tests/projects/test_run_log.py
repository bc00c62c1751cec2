"""What a training logs beside its records: parameters, the machine, digests of the datasets."""

import platform
from dataclasses import replace

import numpy as np
import pytest
import torch

from projects import run_log
from projects.datasets import load_dataset
from projects.loop import Compute
from projects.params import TrainParams, validate
from projects.params.autoencoder import AutoencoderParams
from projects.run_log import lasting


def params(**values):
    return validate(TrainParams, {"subset": 60, "test_subset": 20} | values)


def test_parameters_that_say_where_files_are_do_not_describe_a_run():
    passing = {"data_dir": "/x", "checkpoint": "c", "run_id": "r", "report": "false"}
    assert lasting(params(**passing)) == lasting(params())
    assert not passing.keys() & lasting(params()).keys()


def test_every_other_parameter_describes_a_run_as_the_command_line_spells_it():
    values = lasting(params(record="test,train", learning_rate=0.5, save_model=True))
    assert (values["record"], values["learning_rate"], values["save_model"]) == (
        "test,train",
        "0.5",
        "true",
    )


def test_a_task_without_noisy_labels_has_no_digest_of_them():
    assert "noisy_labels_sha256" not in lasting(validate(AutoencoderParams, {}))


def test_the_machine_is_described():
    system = run_log._system(Compute(torch.device("cpu"), autocast=True))
    assert system["system.device"] == "cpu"
    assert system["system.autocast"] == "bf16"
    assert system["system.python"] == platform.python_version()
    assert system["system.torch"] == torch.__version__
    assert (
        run_log._system(Compute(torch.device("cpu"), autocast=False))["system.autocast"] == "none"
    )


@pytest.fixture(scope="module")
def split():
    return load_dataset(params())[1]


def digest(split):
    return run_log._dataset_digest(split, split.labels)


def test_the_digest_of_a_dataset_does_not_depend_on_the_order_of_its_samples(split):
    assert digest(split.take(np.arange(len(split))[::-1].copy())) == digest(split)


@pytest.mark.parametrize("part", ["images", "labels", "ids", "class_names"])
def test_the_digest_of_a_dataset_depends_on_each_of_its_parts(split, part):
    images, labels = split.images.clone(), split.labels.clone()
    images[0, 0, 0, 0] ^= 1
    labels[0] = (labels[0] + 1) % 10
    other = {
        "images": images,
        "labels": labels,
        "ids": np.where(np.arange(len(split)) == 0, 10_000, split.ids),
        "class_names": tuple("abcdefghij"),
    }
    assert digest(replace(split, **{part: other[part]})) != digest(split)


def test_the_digest_of_a_dataset_depends_on_soft_labels(split):
    hot = torch.nn.functional.one_hot(split.labels, 10).float()
    soft = replace(split, soft_labels=hot)
    softer = replace(split, soft_labels=0.9 * hot + 0.01)
    assert len({digest(split), digest(soft), digest(softer)}) == 3


@pytest.mark.parametrize(
    ("thumbnails", "root", "expected"),
    [
        ("auto", None, True),
        ("auto", "/images", False),
        ("always", "/images", True),
        ("never", None, False),
    ],
)
def test_thumbnails_are_stored_of_images_that_are_no_files(split, thumbnails, root, expected):
    images = replace(split, root=root)
    assert run_log._wants_thumbnails(params(thumbnails=thumbnails), images) is expected


def test_thumbnails_of_a_large_dataset_are_stored_on_request_only(split, monkeypatch):
    monkeypatch.setattr(run_log, "_MAX_THUMBNAIL_BYTES", 20 * 64 - 1)
    assert not run_log._wants_thumbnails(params(), split)
    assert run_log._wants_thumbnails(params(thumbnails="always"), split)
