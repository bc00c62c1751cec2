"""What docs/surprises.md says of other libraries, with those that are installed, and of our files.

A test that fails after an upgrade means that its row of the table is no longer true.
"""

import re

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from helpers import ROOT

from actiontrack.analysis.tables import save_frame
from actiontrack.errors import ParameterError, RecordingError
from actiontrack.history import LossHistory
from actiontrack.record.losses import write_losses
from actiontrack.record.maps import write_maps
from actiontrack.record.paths import losses_path
from actiontrack.record.steps import StepEntry
from actiontrack.recorder import Recorder

TABLE = [
    re.split(r" (?<!\\)\| ", line.strip("| "))
    for line in (ROOT / "docs/surprises.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ")
][1:]
NAN = float("nan")
#: Sample 1 has a loss that is not a number, sample 3 was not seen.
LOSSES = np.ma.masked_array(
    np.array([0.5, NAN, 2, 0.1, 7], np.float32), [False, False, False, True, False]
)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0][:30])
def test_a_row_names_versions_and_fills_every_column(row):
    libraries, behaviour, meaning, answer = row
    assert re.search(r"\d", libraries)
    assert min(map(len, (behaviour, meaning, answer))) > 10


@pytest.fixture(scope="module")
def block(tmp_path_factory):
    """A file of losses of a record."""
    folder = tmp_path_factory.mktemp("record")
    seen = ~np.ma.getmaskarray(LOSSES)
    step = StepEntry(1, 1.0, int(seen.sum()), n_nonfinite=1)
    write_losses(folder, losses_path(1), [step], {"loss": LOSSES.data[None]}, seen[None])
    return folder / losses_path(1)


@pytest.fixture(scope="module")
def rewritten(block, tmp_path_factory):
    """The same rows as PyArrow writes them: with statistics of the losses."""
    path = tmp_path_factory.mktemp("other") / "losses.parquet"
    pq.write_table(pq.read_table(block), path)
    return path


def in_duckdb(path, condition, options=""):
    """Samples for which the condition holds."""
    rows = duckdb.sql(f"SELECT sample FROM read_parquet('{path}'{options}) WHERE {condition}")  # noqa: S608
    return [sample for (sample,) in rows.fetchall()]


def in_memory(path, condition):
    with duckdb.connect() as connection:
        connection.register("block", pq.read_table(path))
        rows = connection.sql(f"SELECT sample FROM block WHERE {condition}")  # noqa: S608
        return [sample for (sample,) in rows.fetchall()]


@pytest.mark.parametrize("condition", ["loss > 100", "isnan(loss)", "loss > 6", "loss <> 7"])
def test_duckdb_filters_our_files_as_it_filters_in_memory(block, condition):
    assert 1 in in_memory(block, condition)
    assert in_duckdb(block, condition) == in_memory(block, condition)


@pytest.mark.parametrize("condition", ["loss > 100", "isnan(loss)"])
def test_duckdb_drops_nan_from_files_with_statistics(rewritten, condition):
    assert in_memory(rewritten, condition) == [1]
    assert in_duckdb(rewritten, condition) == []


def test_duckdb_keeps_nan_with_the_queries_that_the_page_gives(block, rewritten):
    assert in_duckdb(rewritten, "loss > 100", ", can_have_nan = true") == [1]
    assert in_duckdb(rewritten, "loss > 100 OR isnan(loss)") == [1]
    assert in_duckdb(block, "loss > 1 AND isfinite(loss)") == [2, 4]


def test_exported_tables_hold_null_for_nan(tmp_path):
    path, _ = save_frame(pd.DataFrame({"sample": [0, 1], "action": [NAN, 1.0]}), tmp_path / "table")
    assert pq.read_table(path)["action"].to_pylist() == [None, 1.0]
    assert in_duckdb(path, "action IS NULL") == [0]


def orders(path):
    """(maximum, mean, losses in descending order without null) by each library."""
    table = pq.read_table(path)
    duck = duckdb.read_parquet(str(path))
    yield (
        "DuckDB",
        *duck.aggregate("max(loss), avg(loss)").fetchall()[0],
        [loss for (loss,) in duck.order("loss DESC").project("loss").fetchall()],
    )
    rows = table.sort_by([("loss", "descending")])["loss"].to_pylist()
    yield "PyArrow", pc.max(table["loss"]).as_py(), pc.mean(table["loss"]).as_py(), rows
    for name, frame in (
        ("pandas", table.to_pandas()),
        ("pandas, Arrow", table.to_pandas(types_mapper=pd.ArrowDtype)),
    ):
        losses = frame["loss"].drop(index=3)
        rows = losses.sort_values(ascending=False).tolist()
        yield name, losses.max(), losses.mean(), rows


def test_libraries_differ_in_where_nan_stands(block):
    expected = {
        "DuckDB": (NAN, NAN, [NAN, 7, 2, 0.5]),
        "PyArrow": (7, NAN, [7, 2, 0.5, NAN]),
        "pandas": (7, 9.5 / 3, [7, 2, 0.5, NAN]),
        "pandas, Arrow": (7, NAN, [7, 2, 0.5, NAN]),
    }
    for name, largest, mean, rows in orders(block):
        seen = [row for row in rows if row is not None]
        np.testing.assert_allclose([largest, mean, *seen], np.hstack(expected[name]), err_msg=name)


def test_pandas_ranks_nan_by_its_types(block):
    table = pq.read_table(block)
    plain = table.to_pandas()["loss"]
    arrow = table.to_pandas(types_mapper=pd.ArrowDtype)["loss"]
    for ascending in (True, False):
        assert np.isnan(plain.rank(ascending=ascending)[1])
        assert arrow.rank(ascending=ascending)[1] == 4


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ({}, [1, 3]),
        ({"dtype_backend": "numpy_nullable"}, [1, 3]),
        ({"dtype_backend": "pyarrow"}, [3]),
    ],
)
def test_pandas_tells_null_from_nan_with_arrow_types_only(block, options, missing):
    losses = pd.read_parquet(block, **options)["loss"]
    assert np.flatnonzero(losses.isna()).tolist() == missing


def test_pandas_joins_other_samples_where_one_key_is_unsigned():
    left = pd.DataFrame({"sample_id": np.array([2**60 + 1, 5], np.uint64)})
    right = pd.DataFrame({"sample_id": np.array([2**60, 5], np.int64), "row": [0, 1]})
    assert left.merge(right, on="sample_id")["row"].tolist() == [0, 1]
    assert left.astype("int64").merge(right, on="sample_id")["row"].tolist() == [1]
    assert pd.concat([left, right])["sample_id"].dtype == np.float64


def test_pandas_multiplies_rows_where_one_key_is_unsigned():
    ids = 2**60 + np.random.default_rng(0).permutation(1000)
    left, right = (pd.DataFrame({"sample_id": ids.astype(kind)}) for kind in ("uint64", "int64"))
    assert len(left.merge(right)) > 200_000
    assert len(left.astype("int64").merge(right)) == 1000


def test_ids_of_a_history_are_signed_or_refused():
    ids = np.array([1, 2**60 + 1], np.uint64)
    assert LossHistory(losses=np.ones((1, 2)), sample_ids=ids).sample_ids.tolist() == ids.tolist()
    with pytest.raises(ParameterError, match=r"^sample_ids: must be integers from -2\*\*63 to"):
        LossHistory(losses=np.ones((1, 2)), sample_ids=ids + np.uint64(2**63))


def test_folders_named_by_the_epoch_are_read_as_text(tmp_path):
    for epoch in (1, 2, 10):
        folder = tmp_path / f"epoch={epoch}"
        folder.mkdir()
        pq.write_table(pa.table({"loss": [float(epoch)]}), folder / "losses.parquet")
    assert pq.read_table(tmp_path)["loss"].to_pylist() == [1, 10, 2]
    frame = pd.read_parquet(tmp_path)
    assert frame.sort_values("epoch")["loss"].tolist() == [1, 10, 2]
    files = f"read_parquet('{tmp_path}/*/*.parquet', hive_types_autocast = false)"
    rows = duckdb.sql(f"SELECT loss FROM {files} ORDER BY epoch").fetchall()  # noqa: S608
    assert rows == [(1,), (10,), (2,)]


def test_files_of_losses_are_read_in_the_order_of_steps(tmp_path):
    for step in (1, 2, 10):
        grids = {"loss": LOSSES.data[None, :1]}
        write_losses(tmp_path, losses_path(step), [StepEntry(step, 1.0, 1)], grids)
    rows = pyarrow.dataset.dataset(tmp_path / "losses").to_table(columns=["step"])
    assert rows["step"].to_pylist() == [1, 2, 10]
    assert pd.read_parquet(tmp_path / "losses")["step"].dtype == np.int32


def test_duckdb_reads_our_float16_and_no_split_one(tmp_path):
    numbers = pa.array(np.array([1.5, 2], np.float16))
    split = tmp_path / "split.parquet"
    encoding = {"map": "BYTE_STREAM_SPLIT"}
    pq.write_table(
        pa.table({"map": numbers}), split, use_dictionary=False, column_encoding=encoding
    )
    assert [str(kind) for kind in duckdb.read_parquet(str(split)).types] == ["FLOAT"]
    with pytest.raises(duckdb.Error, match="BYTE_STREAM_SPLIT encoding is only supported"):
        duckdb.read_parquet(str(split)).fetchall()
    write_maps(tmp_path, [np.array([[1.5, 2]])], dtype="float16")
    file = tmp_path / "maps/000000.parquet"
    assert str(pq.read_schema(file).field("map").type.value_type) == "halffloat"
    assert duckdb.read_parquet(str(file)).project("map").fetchall() == [([1.5, 2],)]


@pytest.fixture
def stream():
    """A stream of 12 rows in three shards."""
    import datasets

    datasets.disable_progress_bars()
    rows = datasets.Dataset.from_dict({"row": range(12)})
    return rows.to_iterable_dataset(num_shards=3)


def test_datasets_counts_in_each_shard_before_a_shuffle(stream):
    def numbered(row, index):
        return row | {"index": index}

    before = stream.map(numbered, with_indices=True).shuffle(seed=1, buffer_size=4)
    after = stream.shuffle(seed=1, buffer_size=4).map(numbered, with_indices=True)
    assert sorted(row["index"] for row in before) == sorted([*range(4)] * 3)
    assert sorted(row["index"] for row in after) == [*range(12)]


def test_datasets_skips_and_repeats_rows_when_a_shuffle_resumes(stream):
    shuffled = stream.shuffle(seed=1, buffer_size=4)
    rows = iter(shuffled)
    before = [next(rows)["row"] for _ in range(5)]
    shuffled.load_state_dict(shuffled.state_dict())
    after = [row["row"] for row in shuffled]
    assert set(before) & set(after)
    assert {*range(12)} - {*before, *after}


def test_an_epoch_that_repeats_an_id_is_refused(run_id, spool):
    recorder = Recorder("train", run_id=run_id, spool=spool)
    recorder.update([1, 2, 1], losses=[0.5, 0.6, 0.7])
    with pytest.raises(RecordingError):
        recorder.end_epoch()
    recorder.close()


def test_log_softmax_stays_bfloat16_under_autocast():
    import torch

    logits, label = torch.tensor([[7.0, 0]]).bfloat16(), torch.tensor([0])
    with torch.autocast("cpu", torch.bfloat16):
        by_hand = -torch.log_softmax(logits, 1)[:, 0]
        loss = torch.nn.functional.cross_entropy(logits, label)
    assert (by_hand.dtype, by_hand.item()) == (torch.bfloat16, 0)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(np.log1p(np.exp(-7)), rel=1e-3)


def test_losses_of_ours_are_float32_under_autocast():
    import torch

    from actiontrack.recorder.criterion import PerSampleLoss

    criterion = PerSampleLoss(torch.nn.CrossEntropyLoss())
    with torch.autocast("cpu", torch.bfloat16):
        losses = criterion(torch.tensor([[7.0, 0]]).bfloat16(), torch.tensor([0]))["losses"]
    assert float(losses[0]) == pytest.approx(np.log1p(np.exp(-7)), rel=1e-3)


@pytest.mark.parametrize(
    ("reentrant", "expected"), [(True, [2, 2, 2]), (False, [1, 2, 1])], ids=["reentrant", "not"]
)
def test_forward_hooks_run_once_or_twice_under_checkpointing(reentrant, expected):
    import torch
    from torch.utils.checkpoint import checkpoint

    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    modules = [model, *model]
    counts = dict.fromkeys(modules, 0)

    def count(module, *_):
        counts[module] += 1

    for module in modules:
        module.register_forward_hook(count)
    inputs = torch.ones(1, 2, requires_grad=True)
    checkpoint(model, inputs, use_reentrant=reentrant).sum().backward()
    assert [*counts.values()] == expected


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer. Maximum iterations")
def test_a_warm_start_begins_with_a_new_optimiser():
    from sklearn.neural_network import MLPClassifier

    inputs = np.random.default_rng(0).normal(size=(40, 3))
    labels = (inputs[:, 0] > 0).astype(int)
    options = {"hidden_layer_sizes": (4,), "random_state": 0, "shuffle": False}
    warm = MLPClassifier(warm_start=True, max_iter=1, **options)
    steps = MLPClassifier(**options)
    for _ in range(5):
        warm.fit(inputs, labels)
        steps.partial_fit(inputs, labels, classes=[0, 1])
    whole = MLPClassifier(max_iter=5, **options).fit(inputs, labels)
    assert (warm.n_iter_, len(warm.loss_curve_)) == (1, 5)
    assert steps.loss_ == whole.loss_
    assert warm.loss_ != pytest.approx(whole.loss_, rel=1e-7)


def test_a_row_of_nan_hides_the_issues_of_a_class():
    from cleanlab.filter import find_label_issues

    random = np.random.default_rng(0)
    true = random.integers(3, size=600)
    given = true.copy()
    given[::20] = (given[::20] + 1) % 3
    outputs = 0.05 + 0.85 * np.eye(3)[true] + random.uniform(0, 0.02, (600, 3))
    outputs /= outputs.sum(axis=1, keepdims=True)
    assert find_label_issues(given, outputs, n_jobs=1)[::20].all()
    broken = np.flatnonzero((true == 1) & (given == 1))[0]
    outputs[broken] = NAN
    issues = find_label_issues(given, outputs, n_jobs=1)[::20]
    np.testing.assert_array_equal(issues, true[::20] != 1)


@pytest.mark.filterwarnings("ignore:The argument 'eval_set' is deprecated")
def test_lightgbm_leaves_the_labels_of_eval_y_as_they_are():
    import lightgbm
    from sklearn.datasets import load_iris
    from sklearn.metrics import log_loss

    inputs, labels = load_iris(return_X_y=True)
    labels = labels + 1

    def metric(**validation):
        model = lightgbm.LGBMClassifier(n_estimators=3, verbose=-1, n_jobs=1)
        model.fit(inputs, labels, **validation)
        (values,) = model.evals_result_.values()
        return values["multi_logloss"][-1], log_loss(labels, model.predict_proba(inputs))

    encoded, expected = metric(eval_set=[(inputs, labels)])
    assert encoded == pytest.approx(expected)
    raw, expected = metric(eval_X=inputs, eval_y=labels)
    assert raw == pytest.approx(12.43, abs=0.01)
    assert expected == pytest.approx(0.697, abs=1e-3)


def test_xgboost_evaluates_raw_scores_as_probabilities():
    import xgboost

    random = np.random.default_rng(0)
    inputs = random.normal(size=(200, 3))
    labels = (inputs[:, 0] + 0.3 * random.normal(size=200) > 0).astype(int)
    data, log = xgboost.DMatrix(inputs, labels), {}
    options = {"objective": "binary:logitraw", "max_depth": 2, "nthread": 1}
    evaluation = {"evals": [(data, "data")], "evals_result": log, "verbose_eval": False}
    model = xgboost.train(options, data, 30, **evaluation)
    scores = model.predict(data).astype(float)
    formula = np.log(np.maximum(np.where(labels == 1, scores, 1 - scores), 1e-16))
    assert log["data"]["logloss"][-1] == pytest.approx(-formula.mean(), abs=1e-4)
    assert log["data"]["logloss"][-1] < 0


def test_keras_forgets_arguments_of_losses():
    import keras

    losses = keras.losses
    for loss, name in (
        (losses.Huber(delta=0.3), "delta"),
        (losses.CosineSimilarity(axis=1), "axis"),
        (losses.SparseCategoricalCrossentropy(axis=1), "axis"),
    ):
        assert name not in loss.get_config()
    again = losses.deserialize(losses.serialize(losses.Huber(delta=0.3)))
    assert float(again([[0.0]], [[5.0]])) == pytest.approx(4.5)
    assert float(losses.Huber(delta=0.3)([[0.0]], [[5.0]])) == pytest.approx(1.455)


@pytest.fixture
def trained_loss(tmp_path):
    """Function of (model, rows, labels, accumulation) that gives the Trainer's loss at rate 0."""
    from transformers import Trainer, TrainingArguments, logging

    logging.set_verbosity_error()

    def train(model, rows, labels, steps=1):
        arguments = TrainingArguments(
            str(tmp_path),
            per_device_train_batch_size=len(rows) // steps,
            gradient_accumulation_steps=steps,
            num_train_epochs=1,
            learning_rate=0.0,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
        )
        pairs = zip(rows, labels, strict=True)
        data = [{"input_ids": row, "labels": label} for row, label in pairs]
        return Trainer(model, arguments, train_dataset=data).train().training_loss

    return train


SMALL = {"vocab_size": 50, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
SMALL |= {"num_attention_heads": 1}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@pytest.mark.parametrize("steps", [1, 4])
def test_the_trainer_multiplies_the_loss_of_bert_by_the_steps_of_accumulation(trained_loss, steps):
    import torch
    from transformers import BertConfig, BertForMaskedLM

    model = BertForMaskedLM(BertConfig(**SMALL, **NO_DROPOUT)).eval()
    rows = torch.randint(50, (8, 5), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(input_ids=rows, labels=rows).loss.item()
    assert trained_loss(model, rows, rows, steps) == pytest.approx(steps * expected, rel=1e-4)


def test_the_trainer_counts_a_label_of_gpt2_that_is_not_predicted(trained_loss):
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    from actiontrack.recorder.transformers import token_losses

    ends = {"bos_token_id": 0, "eos_token_id": 0}
    quiet = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    small = GPT2Config(vocab_size=50, n_positions=8, n_embd=8, n_layer=1, n_head=1, **quiet, **ends)
    rows = torch.randint(50, (8, 5), generator=torch.Generator().manual_seed(0))
    for model, factor in (
        (GPT2LMHeadModel(small), 4 / 5),
        (LlamaForCausalLM(LlamaConfig(**SMALL, **ends)), 1),
    ):
        with torch.no_grad():
            outputs = model.eval()(input_ids=rows, labels=rows)
        loss = outputs.loss.item()
        assert trained_loss(model, rows, rows) == pytest.approx(factor * loss, rel=1e-4)
        ours = token_losses(outputs.logits, rows, shift=True)
        assert ours.mean().item() == pytest.approx(loss, rel=1e-5)
