# ruff: noqa: ARG002 - the libraries' own signatures
import copy

import mlflow
import numpy as np
import pytest
import torch
from helpers import message
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from actiontrack.errors import ParameterError, RecordingError
from actiontrack.recorder.transformers import (
    ActionTrackCallback,
    ActionTrackTrainerMixin,
    token_losses,
)

N = 23


class TrackedTrainer(ActionTrackTrainerMixin, Trainer):
    pass


class Copies(TrainerCallback):
    """Keeps the model as it is at the end of each epoch."""

    def __init__(self):
        self.models = []

    def on_epoch_end(self, args, state, control, model=None, **kwargs):
        self.models.append(copy.deepcopy(model).eval())


@pytest.fixture
def rows(digits):
    """Pixels of digits as tokens."""
    inputs, labels = digits
    tokens = (inputs[:N, 16:48] * 16).astype(int)
    return [
        {"input_ids": torch.tensor(row), "labels": int(label), "sample_id": 100 + index}
        for index, (row, label) in enumerate(zip(tokens, labels[:N], strict=True))
    ]


def tiny_model():
    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    config = BertConfig(
        vocab_size=17, num_hidden_layers=1, max_position_embeddings=32, num_labels=10, **size
    )
    return BertForSequenceClassification(config)


@pytest.fixture
def train(rows, tmp_path, run_id):
    """Train for two epochs on shuffled batches, in the active run. Returns model and copies."""

    def fit(
        *callbacks,
        kind=TrackedTrainer,
        data=None,
        eval_data=None,
        active=True,
        resume=None,
        given=None,
        **options,
    ):
        settings = {
            "num_train_epochs": 2,
            "per_device_train_batch_size": 5,
            "report_to": "none",
            "remove_unused_columns": False,
            "use_cpu": True,
            "save_strategy": "no",
            "disable_tqdm": True,
            "learning_rate": 0.01,
            "dataloader_pin_memory": False,
        }
        args = TrainingArguments(str(tmp_path / "out"), **settings | options)
        copies = Copies()
        trainer = kind(
            tiny_model(),
            args,
            train_dataset=data or rows,
            eval_dataset=eval_data or rows,
            callbacks=[*callbacks, copies],
            **given or {},
        )
        if active:
            mlflow.start_run(run_id=run_id)
        fit.trainers.append(trainer)
        trainer.train(resume_from_checkpoint=resume)
        return trainer, copies.models

    fit.trainers = []
    return fit


def without_ids(rows):
    return [{name: row[name] for name in ("input_ids", "labels")} for row in rows]


def expected(models, rows, cross_entropy):
    tokens = torch.stack([row["input_ids"] for row in rows])
    with torch.no_grad():
        logits = [each(tokens).logits for each in models]
    return np.stack([cross_entropy(each, [row["labels"] for row in rows]) for each in logits])


def test_a_probe_records_the_model_of_a_plain_trainer_after_each_epoch(
    train, rows, history, complete, run_id, cross_entropy
):
    data = without_ids(rows)
    track = ActionTrackCallback(data, batch_size=4)
    _, models = train(track, kind=Trainer, data=data, remove_unused_columns=True)
    found = history(run_id)
    assert found.sample_ids.tolist() == list(range(N))
    np.testing.assert_allclose(found.losses, expected(models, rows, cross_entropy), atol=1e-5)
    assert complete(run_id)


@pytest.mark.parametrize("ids", [range(100, 100 + N), [f"é{each:02}" for each in range(N)]])
def test_a_probe_takes_the_ids_of_its_items(train, rows, history, run_id, ids):
    named = [row | {"sample_id": each} for row, each in zip(rows, ids, strict=True)]
    train(ActionTrackCallback(named), kind=Trainer, data=without_ids(rows))
    assert history(run_id).sample_ids.tolist() == list(ids)


def test_training_with_a_probe_is_the_same_bit_for_bit(train, rows):
    data = without_ids(rows)
    plain, _ = train(kind=Trainer, data=data, active=False)
    tracked, _ = train(ActionTrackCallback(data), kind=Trainer, data=data)
    for name, weights in plain.model.state_dict().items():
        assert torch.equal(weights, tracked.model.state_dict()[name])


def test_inline_records_the_losses_of_the_training_batches(train, history, run_id, cross_entropy):
    seen = []

    class Spy(Trainer):
        def compute_loss(self, model, inputs, *args, **kwargs):
            loss, outputs = super().compute_loss(model, dict(inputs), *args, **kwargs)
            seen.append(cross_entropy(outputs["logits"].detach(), inputs["labels"]))
            return loss, outputs

    class Both(ActionTrackTrainerMixin, Spy):
        pass

    train(
        ActionTrackCallback(split="train", mode="inline"),
        kind=Both,
        eval_strategy="epoch",
        label_smoothing_factor=0.1,
    )
    found = history(run_id, "train-inline")
    assert found.sample_ids.tolist() == list(range(100, 100 + N))
    # The spy sees the evaluation batches too: three of eight after each five of training.
    train_losses = [np.concatenate([seen[e * 8 + b] for b in range(5)]) for e in range(2)]
    for row in range(2):
        np.testing.assert_allclose(
            np.sort(found.losses[row]), np.sort(train_losses[row]), rtol=1e-5
        )
    assert found.steps.tolist() == [1, 2]


def test_ids_travel_with_their_samples_through_shuffling(train, rows, history, run_id):
    train(ActionTrackCallback(split="train", mode="inline"))
    labels = history(run_id, "train-inline").labels
    assert labels.tolist() == [row["labels"] for row in rows]


def test_a_batch_without_ids_is_refused(train, rows):
    text = (
        "compute_loss: the batch has no 'sample_id'. Every item of the training dataset needs an "
        "integer 'sample_id', also after the Trainer has prepared it: packing drops it, and so may "
        "a data collator of a stream."
    )
    with pytest.raises(RecordingError, match=message(text)):
        train(ActionTrackCallback(split="train", mode="inline"), data=without_ids(rows))
    assert train.trainers[-1].state.global_step == 0


def test_a_trainer_that_removes_the_ids_is_refused(train):
    text = (
        "remove_unused_columns: must be False, or the Trainer removes 'sample_id' from the "
        "batches, got True. Pass TrainingArguments(remove_unused_columns=False)."
    )
    with pytest.raises(ParameterError, match=message(text)):
        train(remove_unused_columns=True)


@pytest.mark.parametrize(("data", "mode"), [([], "inline"), (None, "probe")])
def test_data_belong_to_the_mode_probe(data, mode):
    text = r"^data: must be given in mode probe and left out in mode inline, got "
    with pytest.raises(ParameterError, match=text):
        ActionTrackCallback(data, mode=mode)


def test_the_run_of_report_to_mlflow_is_followed(train, rows, store, active_experiment):
    track = ActionTrackCallback(rows)
    train(track, kind=TrackedTrainer, active=False, report_to="mlflow")
    run = mlflow.search_runs(experiment_names=[active_experiment]).query("status == 'FINISHED'")
    assert len(run) == 1
    assert store.get_run(run["run_id"].iloc[0]).records == ("test-probe",)


def test_without_a_run_training_does_not_begin(train, rows):
    text = "there is no active MLflow run. Start one with mlflow.start_run(), or pass run_id."
    with pytest.raises(RecordingError, match=message(text)):
        train(ActionTrackCallback(rows), active=False)


class SecondEpochLacksOne(TrainerCallback):
    """From the second epoch on, the last item of the probe has the id of the first."""

    def __init__(self, data):
        self.data = data

    def on_epoch_begin(self, args, state, control, **kwargs):
        if state.epoch >= 1:
            self.data[-1]["sample_id"] = self.data[0]["sample_id"]


def test_a_partial_epoch_of_a_probe_is_one_of_the_samples_of_the_probe(train, rows):
    data = [dict(row) for row in rows[:6]]
    probe = ActionTrackCallback(data, duplicates="first")
    with pytest.warns(UserWarning, match="epoch 2 .* is partial, it holds 5 of 6 samples"):
        train(SecondEpochLacksOne(data), probe)


class Failing(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 7:
            raise ZeroDivisionError


def test_an_error_in_training_keeps_the_epochs_before(train, rows, history, complete, run_id):
    track = ActionTrackCallback(rows)
    with pytest.raises(ZeroDivisionError):
        train(track, Failing())
    assert history(run_id).steps.tolist() == [1]
    assert not complete(run_id)


def test_a_plain_trainer_closes_the_record_with_the_block(train, rows, complete, run_id):
    data = without_ids(rows)
    with pytest.raises(ZeroDivisionError), ActionTrackCallback(data) as track:
        train(track, Failing(), kind=Trainer, data=data)
    assert not complete(run_id)
    assert track.recorder.synced


def test_training_resumed_from_a_checkpoint_continues_the_record(train, rows, history, run_id):
    train(ActionTrackCallback(rows), save_strategy="epoch")
    before = history(run_id).losses
    track = ActionTrackCallback(rows, resume=True)
    train(track, num_train_epochs=3, resume=True, active=False)
    found = history(run_id)
    assert found.steps.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(found.losses[:2], before)


@pytest.mark.parametrize(("kind", "deltas"), [("epoch", [1, 1]), ("batch", [5, 5])])
def test_a_step_weighs_an_epoch_or_its_updates(train, rows, history, run_id, kind, deltas):
    train(ActionTrackCallback(rows, delta_kind=kind))
    assert history(run_id).deltas.tolist() == deltas


def test_other_models_need_to_say_what_their_losses_are(rows):
    track = ActionTrackCallback(rows)
    text = r"^outputs: not those of a classifier of whole samples with 'labels'\. Pass extract"
    with pytest.raises(RecordingError, match=text):
        track._extract({"labels": torch.zeros(2, 3)}, {"logits": torch.zeros(2, 3, 5)})


@pytest.mark.parametrize("shift", [True, False])
def test_token_losses_are_means_over_the_tokens_that_count(shift):
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 6, 5), torch.randint(5, (3, 6))
    labels[0, 2:4] = -100
    ahead = (logits[:, :-1], labels[:, 1:]) if shift else (logits, labels)
    losses = [nn.functional.cross_entropy(*each).item() for each in zip(*ahead, strict=True)]
    assert token_losses(logits, labels, shift=shift).tolist() == pytest.approx(losses)


def test_token_losses_of_a_language_model_average_to_its_own_loss():
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=11, n_positions=8, n_embd=8, n_layer=1, n_head=1)
    tokens = torch.randint(11, (4, 8))
    with torch.no_grad():
        outputs = GPT2LMHeadModel(config).eval()(tokens, labels=tokens)
    losses = token_losses(outputs.logits, tokens, shift=True)
    assert losses.mean().item() == pytest.approx(outputs.loss.item(), rel=1e-5)


def test_token_losses_are_out_of_reach_of_autocast():
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 6, 5), torch.randint(5, (3, 6))
    expected = token_losses(logits, labels, shift=False)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(token_losses(logits, labels, shift=False), expected)
