"""TRL's SFTTrainer: what is recorded is the loss of each document alone."""

import functools

import datasets
import mlflow
import numpy as np
import pytest
import torch
from causal_lm_training import (
    SETTINGS,
    Batches,
    documents,
    loss_alone,
    tiny_model,
    tokenizer,
)
from helpers import message
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

from actiontrack.errors import ParameterError, RecordingError
from actiontrack.recorder.trl import track_sft

pytestmark = pytest.mark.filterwarnings(
    # TRL 1.16 sets what Transformers 5.24 calls by another name, and makes tensors of lists.
    "ignore:.gradient_checkpointing. is deprecated:FutureWarning",
)
datasets.disable_progress_bars()

STILL = {"learning_rate": 0.0, "num_train_epochs": 1}  # the weights stay as they were
WHOLE = {"max_length": None}
BFD = {"packing": True, "max_length": 128}


@pytest.fixture
def train(tmp_path, run_id):
    """A function that trains an SFTTrainer in the test's run, recorded as `given` says."""

    def fit(
        kind="text", *, tracks=({},), data=None, model=None, peft=None, resume=None, **options
    ):
        args = SFTConfig(str(tmp_path / "out"), **(SETTINGS | options))
        data = documents(kind) if data is None else data
        batches = Batches()
        trainer = SFTTrainer(
            model or tiny_model(),
            args,
            train_dataset=data,
            eval_dataset=data,
            processing_class=tokenizer(),
            callbacks=[batches],
            peft_config=peft,
        )
        callbacks = [track_sft(trainer, data, **{"run_id": run_id} | given) for given in tracks]
        trainer.train(resume_from_checkpoint=resume)
        trainer.batches, trainer.tracks = batches, callbacks
        return trainer

    return fit


@functools.cache
def tokens_and_labels(kind="text", max_length=None, **options):
    """id -> tokens and labels, as an SFTTrainer that nobody watches prepares them."""
    args = SFTConfig("unused", **SETTINGS | {"max_length": max_length} | options)
    data = documents(kind)
    trainer = SFTTrainer(tiny_model(), args, train_dataset=data, processing_class=tokenizer())
    rows = trainer.train_dataset
    columns = (rows["sample_id"], rows["input_ids"], rows["labels"])
    return {name: (tokens, labels) for name, tokens, labels in zip(*columns, strict=True)}


def losses_alone(model, documents_by_id):
    """id -> the mean loss of its tokens, in a batch of one."""
    model.eval()
    return {name: np.nanmean(loss_alone(model, *pair)) for name, pair in documents_by_id.items()}


def assert_losses(found, step, expected):
    losses = dict(zip(found.sample_ids.tolist(), found.losses[step].tolist(), strict=True))
    assert losses.keys() == expected.keys()
    names = sorted(losses)
    np.testing.assert_allclose(
        [losses[name] for name in names], [expected[name] for name in names], atol=1e-5
    )


LORA = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
CASES = {
    "padded": {},
    "completion only": {"kind": "completion"},
    "assistant only": {"kind": "messages", "assistant_only_loss": True},
    "accumulated": {"gradient_accumulation_steps": 3},
    "padding-free": {"padding_free": True},
    "padding-free, to a multiple": {"padding_free": True, "pad_to_multiple_of": 64},
    "packed": BFD,
    "packed, completion only": BFD | {"kind": "completion"},
    "packed, not checkpointed": BFD | {"gradient_checkpointing": False},
    "packed, accumulated, LoRA": BFD | {"gradient_accumulation_steps": 2, "peft": LORA},
}


@pytest.mark.parametrize("case", CASES)
def test_the_loss_of_a_training_batch_is_that_of_its_documents_alone(
    train, history, read, run_id, case
):
    options = STILL | WHOLE | CASES[case]
    trainer = train(**options)
    kind = {"kind": options.get("kind", "text")}
    if "assistant_only_loss" in options:
        kind["assistant_only_loss"] = True
    expected = losses_alone(trainer.model, tokens_and_labels(**kind))
    assert_losses(history(run_id, "train-inline"), 0, expected)
    assert read("train-inline").manifest.notes == {"loss_check": "agrees"}


def test_packed_documents_are_kept_apart_by_eager_attention_too(train, history, run_id):
    model = tiny_model()
    model.set_attn_implementation("eager")
    trainer = train(model=model, **STILL | BFD)
    expected = losses_alone(trainer.model, tokens_and_labels())
    assert_losses(history(run_id, "train-inline"), 0, expected)


def test_each_loss_is_that_of_the_weights_that_the_batch_met(train, history, run_id):
    trainer = train(**BFD | {"max_length": 256, "per_device_train_batch_size": 1})
    states = trainer.batches.models[:-1]  # the last of each epoch is one before no batch
    found = history(run_id, "train-inline")
    per_state = []
    for state in states:
        trainer.model.load_state_dict(state)
        alone = losses_alone(trainer.model, tokens_and_labels())
        per_state.append([alone[name] for name in found.sample_ids.tolist()])
    for losses in found.losses:
        differences = np.abs(np.array(per_state) - losses)
        assert (differences.min(axis=0) < 1e-5).all()
        met = differences.argmin(axis=0)
        assert len(set(met.tolist())) > 1
