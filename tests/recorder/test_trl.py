# ruff: noqa: ARG002 - the library's own signatures
"""TRL's SFTTrainer: what is recorded is the loss of each document alone."""

import functools
import tempfile

import datasets
import mlflow
import numpy as np
import pytest
from causal_lm_training import (
    SETTINGS,
    Batches,
    documents,
    loss_alone,
    snapshot,
    tiny_model,
    tokenizer,
)
from helpers import message
from peft import LoraConfig
from transformers import Trainer, TrainerCallback, TrainingArguments
from trl import SFTConfig, SFTTrainer

from actiontrack.analysis import token_actions
from actiontrack.errors import ParameterError, RecordingError
from actiontrack.recorder.trl import track_sft
from actiontrack.store import Store
from actiontrack.store.tokens import token_index, token_texts
from actiontrack.testing import AdapterTests, AdapterTraining

datasets.disable_progress_bars()

STILL = {"learning_rate": 0.0, "num_train_epochs": 1}  # the weights stay as they were
WHOLE = {"max_length": None}
BFD = {"packing": True, "max_length": 128}


@pytest.fixture
def train(tmp_path, run_id):
    """A function that trains an SFTTrainer in the test's run, recorded as `given` says."""

    def fit(kind="text", *, tracks=({},), data=None, model=None, peft=None, resume=None, **options):
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
    states = trainer.batches.steps
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


def test_the_own_pass_records_the_training_set_in_evaluation_mode(train, history, read, run_id):
    probe = {"mode": "probe", "batch_size": 3}
    model = tiny_model(dropout=0.3)
    trainer = train(model=model, tracks=[probe, {}], **BFD | {"max_length": 256})
    found = history(run_id, "train-probe")
    expected = losses_alone(trainer.model, tokens_and_labels())
    assert_losses(found, -1, expected)
    assert found.steps.tolist() == [1, 2]
    inline = history(run_id, "train-inline")
    assert inline.sample_ids.tolist() == found.sample_ids.tolist()
    assert np.abs(inline.losses - found.losses).max() > 1e-3  # dropout and older weights
    assert read("train-probe").manifest.complete


@pytest.mark.parametrize("options", [{}, {"eval_packing": False, **BFD}, BFD])
def test_the_evaluation_of_the_trainer_is_recorded_without_a_pass_more(
    train, history, read, run_id, options, monkeypatch
):
    probe = {"dataset": "eval", "mode": "probe"}
    trainer = train(tracks=[probe], eval_strategy="epoch", **{"max_length": 256} | options)
    expected = losses_alone(trainer.model, tokens_and_labels())
    found = history(run_id, "eval-probe")
    assert_losses(found, -1, expected)
    assert found.steps.tolist() == [1, 2]
    assert read("eval-probe").manifest.notes == {"loss_check": "agrees"}


def test_an_evaluation_inside_an_epoch_is_not_recorded(train, history, run_id):
    probe = {"dataset": "eval", "mode": "probe"}
    trainer = train(tracks=[probe], eval_strategy="steps", eval_steps=2, **WHOLE)
    assert history(run_id, "eval-probe").steps.tolist() == [1, 2]  # by passes of our own
    expected = losses_alone(trainer.model, tokens_and_labels())
    assert_losses(history(run_id, "eval-probe"), -1, expected)


def test_documents_that_are_cut_to_nothing_are_named(train, history, read, run_id):
    with pytest.warns(UserWarning, match="of 21 documents the trainer has dropped: no token"):
        train("completion", max_length=12)
    record = read("train-inline")
    left = record.samples.sample_ids.tolist()
    assert 0 < len(left) < 21
    assert f"{21 - len(left)} of 21 documents" in record.manifest.notes["documents"]


def test_packed_documents_without_a_scored_token_are_named(train, read, run_id):
    with pytest.warns(UserWarning, match="documents have no token with a loss.*é-") as caught:
        train("completion", **BFD | {"max_length": 12})
    record = read("train-inline")
    left = set(record.samples.sample_ids.tolist())
    assert 0 < len(left) < 21
    text = next(str(each.message) for each in caught if "no token" in str(each.message))
    assert text.startswith(f"record train-inline: {21 - len(left)} of 21 documents")
    assert not any(name in text.split("not in it:")[1] for name in left)
    scores = record.scores()
    assert (scores["n_tokens"] >= 1).all()


def test_equal_documents_in_packed_rows_are_interchangeable(train, history, run_id):
    data = documents()
    twins = datasets.Dataset.from_dict(
        {
            "sample_id": [*data["sample_id"], "twin-0", "twin-1"],
            "text": [*data["text"], data["text"][0], data["text"][0]],
        }
    )
    train(data=twins, **STILL | BFD)
    found = history(run_id, "train-inline")
    losses = dict(zip(found.sample_ids.tolist(), found.losses[0].tolist(), strict=True))
    assert len(losses) == 23
    assert losses["twin-0"] == pytest.approx(losses["é-00"], abs=1e-6)


@pytest.mark.parametrize(
    ("strategy", "reason"),
    [
        ("wrapped", "documents see those before them in the row"),
        ("bfd_split", "long documents are cut into pieces"),
    ],
)
def test_a_strategy_that_cuts_documents_is_refused_with_the_reason(train, strategy, reason):
    text = f"packing_strategy={strategy!r} can't be recorded: {reason}"
    with pytest.raises(RecordingError, match=message(text).removesuffix("$")):
        train(**BFD | {"packing_strategy": strategy})


def test_packed_rows_of_other_documents_are_refused(tmp_path, run_id):
    args = SFTConfig(str(tmp_path), **SETTINGS | BFD)
    data = documents()
    trainer = SFTTrainer(tiny_model(), args, train_dataset=data, processing_class=tokenizer())
    text = "a document of the packed rows is none of data: its tokens or labels are others."
    with pytest.raises(RecordingError, match=text):
        track_sft(trainer, documents("completion"))


def test_ids_must_be_there_and_each_its_own(train):
    nameless = documents().remove_columns("sample_id")
    with pytest.raises(RecordingError, match=r"^the dataset has no 'sample_id'\. Give every"):
        train(data=nameless)
    same = documents().map(lambda _: {"sample_id": 1})
    with pytest.raises(ParameterError, match=r"^sample_id: must be that of one document each"):
        train(data=same)


@pytest.mark.parametrize("options", [{}, BFD])
def test_without_the_documents_nothing_is_recorded(tmp_path, options):
    args = SFTConfig(str(tmp_path), **SETTINGS | options)
    trainer = SFTTrainer(
        tiny_model(), args, train_dataset=documents(), processing_class=tokenizer()
    )
    with pytest.raises(ParameterError, match=r"^data: must be a dataset .*, got 'NoneType'"):
        track_sft(trainer, None)


def test_other_trainers_are_refused(tmp_path):
    args = TrainingArguments(str(tmp_path), **SETTINGS)
    trainer = Trainer(tiny_model(), args, train_dataset=documents())
    with pytest.raises(ParameterError, match=r"^trainer: must be of the class SFTTrainer, got"):
        track_sft(trainer, documents())


def test_only_the_training_set_is_recorded_inline(train):
    with pytest.raises(ParameterError, match=r"^dataset: must be 'train' in mode inline"):
        train(tracks=[{"dataset": "eval"}])
    with pytest.raises(ParameterError, match=r"^dataset: must be 'train', 'eval' or the name"):
        train(tracks=[{"dataset": "other", "mode": "probe"}])


def test_smoothing_changes_the_training_not_the_recorded_loss(train, history, read, run_id):
    with pytest.warns(FutureWarning, match="label_smoothing_factor"):
        trainer = train(label_smoothing_factor=0.2, **STILL | WHOLE)
    expected = losses_alone(trainer.model, tokens_and_labels())
    assert_losses(history(run_id, "train-inline"), 0, expected)
    assert "loss_check" not in (read("train-inline").manifest.notes or {})


def test_losses_of_tokens_add_up_over_the_epochs(train, read, run_id):
    tokens = {"tokens": 5, "token_texts": True}
    train("completion", tracks=[tokens], **STILL | BFD | {"num_train_epochs": 3})
    record, alone = read("train-inline"), tokens_and_labels("completion")
    model = tiny_model().eval()
    rows = np.flatnonzero(token_index(record)["file"] >= 0)
    assert len(rows) == 5
    for row in rows:
        name = record.samples.sample_ids[row].item()
        found = token_actions(record, name)
        np.testing.assert_allclose(found["action"], 3 * loss_alone(model, *alone[name]), atol=1e-4)
        assert "".join(found["text"]) == tokenizer().decode(alone[name][0])


def test_without_a_request_a_record_holds_no_tokens_and_no_texts(train, read, run_id):
    train(tracks=[{}, {"split": "some", "tokens": 2}], **STILL)
    assert not token_texts(read("some-inline"), 0)
    assert not [path for path in read("train-inline").manifest.files if "map" in path]


def test_texts_are_kept_out_where_images_are(train, read, run_id, monkeypatch):
    monkeypatch.setenv("ACTIONTRACK_IMAGES", "never")
    train(tracks=[{"tokens": 2, "token_texts": True}], **STILL)
    record = read("train-inline")
    assert "tokens.parquet" not in record.manifest.files
    assert len(np.flatnonzero(token_index(record)["file"] >= 0)) == 2


def test_scores_hold_perplexity_and_the_number_of_tokens(train, read, run_id):
    train("completion", **STILL | BFD)
    scores = read("train-inline").scores().set_index("sample_id")
    for name, (_, labels) in tokens_and_labels("completion").items():
        assert scores.loc[name, "n_tokens"] == sum(label != -100 for label in labels[1:])
        loss = scores.loc[name, "final_loss"]
        assert scores.loc[name, "perplexity"] == pytest.approx(np.exp(loss))


def test_after_training_the_trainer_is_as_before(train, run_id):
    trainer = train(eval_strategy="epoch")
    assert trainer._signature_columns == ["input_ids", "labels", "seq_lengths"]
    assert type(trainer.data_collator).__module__.startswith("trl.")
    assert not trainer.model._forward_hooks
    assert not trainer.model._forward_pre_hooks
    assert trainer.args.remove_unused_columns
    assert trainer.evaluate()["eval_loss"] > 0


class Failing(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 7:
            raise ZeroDivisionError


def test_an_error_closes_the_record_with_the_epochs_before(tmp_path, history, complete, run_id):
    args, data = SFTConfig(str(tmp_path), **SETTINGS), documents()
    trainer = SFTTrainer(
        tiny_model(), args, train_dataset=data, processing_class=tokenizer(), callbacks=[Failing()]
    )
    track = track_sft(trainer, data, run_id=run_id)
    with pytest.raises(ZeroDivisionError):
        trainer.train()
    assert history(run_id, "train-inline").steps.tolist() == [1]
    assert not complete(run_id, "train-inline")
    assert track.recorder.closed
    assert not trainer.model._forward_hooks


def test_a_training_that_is_resumed_continues_the_record(train, history, complete, run_id):
    train(save_strategy="epoch", **BFD)
    before = history(run_id, "train-inline").losses
    options = BFD | {"num_train_epochs": 3}
    train(tracks=[{"resume": True, "tokens": 0}], resume=True, **options)
    found = history(run_id, "train-inline")
    assert found.steps.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(found.losses[:2], before)
    assert complete(run_id, "train-inline")


class TestSFTTrainer(AdapterTests):
    """Packed, with LoRA and dropout, accumulated: probed and inline at the same time."""

    def make_store(self, folder):
        del folder
        return Store(mlflow.get_tracking_uri())

    def train(self, options):
        return self._train(options)

    def train_until_error(self, options):
        self._train(options, Failing())

    def _train(self, options, *callbacks):
        model = tiny_model(dropout=0.1)
        lora = LoraConfig(r=4, target_modules=["q_proj"], lora_dropout=0.1)
        settings = BFD | {"max_length": 256, "per_device_train_batch_size": 1}
        batches = Batches()
        with tempfile.TemporaryDirectory() as folder:
            args = SFTConfig(folder, **SETTINGS | settings)
            data = documents()
            trainer = SFTTrainer(
                model, args, train_dataset=data, processing_class=tokenizer(),
                callbacks=[batches, *callbacks], peft_config=lora,
            )  # fmt: skip
            if options is not None:
                track_sft(trainer, data, mode="probe", split="test", tokens=3, **options)
                track_sft(trainer, data, **options)
            trainer.train()
        weights = [value.numpy() for value in snapshot(trainer.model).values()]
        ids, losses = sorted(data["sample_id"]), []
        states = trainer.model.state_dict()
        for state in batches.epochs:
            states.update(state)
            trainer.model.load_state_dict(states)
            alone = losses_alone(trainer.model, tokens_and_labels())
            losses.append([alone[name] for name in ids])
        return AdapterTraining(ids=ids, losses=losses, weights=weights)
