"""FERPlus: both CSV files in their exact on-disk format, both kinds of labels, a run on each."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy

from actiontrack.errors import DataError
from projects.datasets import load_dataset
from projects.datasets.ferplus import EMOTIONS, majority_shares, probability_shares
from projects.loading import Normalisation
from projects.loop import seed_everything
from projects.models import build_model
from projects.params import TrainParams, validate

HEADER = (
    "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
)
N, H, SU, SA, A, D, F, C = range(8)


# --- votes to labels: rows of the real file, worked by hand ---


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        ([9, 0, 0, 1, 0, 0, 0, 0, 0, 0], N),
        ([5, 0, 0, 3, 1, 0, 0, 0, 1, 0], N),  # 5 of 8: single votes don't count
        ([4, 0, 0, 1, 3, 2, 0, 0, 0, 0], None),  # 4 of 9
        ([4, 0, 0, 4, 1, 0, 0, 0, 1, 0], None),
        ([5, 0, 0, 5, 0, 0, 0, 0, 0, 0], None),  # half is not more than half
        ([5, 0, 1, 0, 0, 0, 0, 0, 4, 0], N),  # 5 of 9
        ([3, 0, 1, 0, 0, 0, 0, 0, 6, 0], None),  # unknown
        ([0, 0, 0, 0, 0, 0, 0, 0, 0, 10], None),  # not a face
        ([1, 1, 1, 1, 1, 1, 1, 1, 1, 1], None),
    ],
)
def test_the_majority_is_more_than_half_of_all_votes_that_count(votes, expected):
    shares = majority_shares(np.array([votes]))
    assert shares.dtype == np.float32
    assert np.flatnonzero(shares[0]).tolist() == ([] if expected is None else [expected])
    assert set(shares[0].tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        ([9, 0, 0, 1, 0, 0, 0, 0, 0, 0], {N: 1}),
        ([4, 0, 0, 1, 3, 2, 0, 0, 0, 0], {N: 4 / 7, A: 3 / 7}),  # 7 of 9 are three quarters
        ([4, 0, 0, 4, 1, 0, 0, 0, 1, 0], {N: 1 / 2, SA: 1 / 2}),
        ([2, 2, 3, 1, 0, 1, 1, 0, 0, 0], {SU: 3 / 7, N: 2 / 7, H: 2 / 7}),
        ([1, 0, 0, 1, 2, 3, 1, 1, 1, 0], {D: 3 / 5, A: 2 / 5}),
        ([0, 0, 3, 0, 3, 0, 3, 0, 1, 0], {SU: 1 / 3, A: 1 / 3, F: 1 / 3}),
        ([4, 0, 0, 2, 2, 0, 0, 0, 2, 0], {N: 1 / 2, SA: 1 / 4, A: 1 / 4}),  # unknown left out
        ([5, 0, 1, 0, 0, 0, 0, 0, 4, 0], {N: 1}),
        ([4, 1, 0, 1, 0, 0, 0, 0, 4, 0], {}),  # unknown as often: 4 of 8 is not more than half
        ([2, 0, 2, 2, 2, 0, 0, 0, 1, 1], {}),  # four emotions
        ([3, 0, 1, 0, 0, 0, 0, 0, 6, 0], {}),  # unknown
        ([0, 0, 0, 0, 0, 0, 0, 0, 0, 10], {}),  # not a face
        ([1, 1, 1, 1, 1, 1, 1, 1, 1, 1], {}),
    ],
)
def test_the_shares_are_those_of_the_emotions_that_hold_three_quarters(votes, expected):
    shares = probability_shares(np.array([votes]))
    assert shares.dtype == np.float32
    assert shares[0].tolist() == pytest.approx([expected.get(i, 0) for i in range(8)])


def shares_by_walking(votes):
    """The same rule as a walk from the most votes to the fewest, in exact fractions."""
    counted = [vote if vote > 1 else 0 for vote in votes]
    total, taken = sum(counted), {}
    for level in sorted(set(counted) - {0}, reverse=True):
        if len(taken) >= 3 or sum(taken.values()) >= Fraction(3, 4) * total:
            break
        at_level = [i for i, count in enumerate(counted) if count == level]
        taken |= {i: level for i in at_level if i < 8}
        if max(at_level) >= 8:
            break
    held = sum(taken.values())
    if held <= Fraction(1, 2) * total or len(taken) > 3:
        taken = {}
    return [Fraction(taken.get(i, 0), held or 1) for i in range(8)]


@given(votes=st.lists(st.integers(0, 10), min_size=10, max_size=10))
def test_the_shares_of_any_votes_follow_the_rule(votes):
    expected = [float(share) for share in shares_by_walking(votes)]
    assert probability_shares(np.array([votes]))[0].tolist() == pytest.approx(expected)


# --- the files ---


def pixels_of(row):
    """Grey values of the image in a row, uint8 (48, 48)."""
    return np.random.default_rng(row).integers(256, size=(48, 48), dtype=np.uint8)


def write(folder, rows):
    """Write both files from (usage, image name, votes); returns their paths."""
    folder.mkdir(exist_ok=True)
    images, labels = folder / "fer2013.csv", folder / "fer2013new.csv"
    lines = [
        f"{row % 7},{' '.join(map(str, pixels_of(row).ravel()))},{usage}"
        for row, (usage, _, _) in enumerate(rows)
    ]
    images.write_text("\n".join(["emotion,pixels,Usage", *lines, ""]))
    lines = [f"{usage},{name},{','.join(map(str, votes))}" for usage, name, votes in rows]
    labels.write_text("\n".join([HEADER, *lines, ""]))
    return images, labels


def votes_for(emotion):
    return [9 if i == emotion else int(i == (emotion + 1) % 8) for i in range(10)]


NOT_A_FACE = [0] * 9 + [10]
ROWS = [
    ("Training", "fer0000000.png", [4, 0, 0, 1, 3, 2, 0, 0, 0, 0]),  # 0: no majority
    ("Training", "fer0000001.png", [5, 0, 0, 3, 1, 0, 0, 0, 1, 0]),  # 1: neutral 5/8, sadness 3/8
    ("Training", "", NOT_A_FACE),
    ("Training", "fer0000002.png", votes_for(H)),  # 3: names are not row numbers
    ("Training", "fer0000003.png", [3, 0, 1, 0, 0, 0, 0, 0, 6, 0]),  # 4: unknown
    ("PublicTest", "fer0000004.png", votes_for(A)),
    ("PrivateTest", "fer0000005.png", votes_for(F)),  # 6
    ("PrivateTest", "", NOT_A_FACE),
    ("PrivateTest", "fer0000007.png", [0, 5, 5, 0, 0, 0, 0, 0, 0, 0]),  # 8: a tie
]


@pytest.fixture
def root(tmp_path):
    write(tmp_path / "ferplus", ROWS)
    return tmp_path


def load(root, **values):
    return load_dataset(
        validate(TrainParams, {"dataset": "ferplus", "data_dir": str(root)} | values)
    )


def fails(root, **values):
    with pytest.raises(DataError) as caught:
        load(root, **values)
    return str(caught.value)


def test_images_are_48x48_and_grey_with_the_pixels_of_their_row(root):
    for split in load(root):
        assert split.images.shape[1:] == (1, 48, 48)
        for image, row in zip(split.images, split.ids, strict=True):
            np.testing.assert_array_equal(image[0], pixels_of(row))


def test_majority_keeps_the_rows_with_one_and_gives_labels_only(root):
    train, test = load(root)
    assert (train.ids.tolist(), train.labels.tolist()) == ([1, 3], [N, H])
    assert (test.ids.tolist(), test.labels.tolist()) == ([6], [F])
    assert train.soft_labels is None
    assert train.class_names == EMOTIONS


def test_probability_keeps_the_shares_and_labels_the_first_of_the_most_likely(root):
    train, test = load(root, ferplus_labels="probability")
    assert (train.ids.tolist(), train.labels.tolist()) == ([0, 1, 3], [N, N, H])
    assert (test.ids.tolist(), test.labels.tolist()) == ([6, 8], [F, H])
    expected = torch.zeros(2, 8)
    expected[0, F] = 1
    expected[1, [H, SU]] = 0.5
    torch.testing.assert_close(test.soft_labels, expected)


def test_a_subset_keeps_its_own_pixels_and_shares(root):
    whole, _ = load(root, ferplus_labels="probability")
    part, _ = load(root, ferplus_labels="probability", subset=2)
    where = np.searchsorted(whole.ids, part.ids)
    assert torch.equal(part.images, whole.images[where])
    assert torch.equal(part.soft_labels, whole.soft_labels[where])


def test_the_files_may_lie_in_the_data_dir_itself(root):
    assert len(load(root / "ferplus")[0]) == 2


def test_only_the_pixels_of_the_rows_that_count_are_parsed(root):
    images = root / "ferplus" / "fer2013.csv"
    lines = images.read_text().splitlines()
    lines[3] = "0,1 2 3,Training"  # row 2, not a face
    images.write_text("\n".join(lines))
    assert len(load(root)[0]) == 2


@pytest.mark.parametrize(
    ("gone", "missing"),
    [
        (["fer2013.csv"], "no fer2013.csv"),
        (["fer2013new.csv"], "no fer2013new.csv"),
        (["fer2013.csv", "fer2013new.csv"], "no fer2013.csv and no fer2013new.csv"),
    ],
)
def test_a_missing_file_is_named_with_the_source_of_both(root, gone, missing):
    for name in gone:
        (root / "ferplus" / name).unlink()
    assert fails(root) == (
        "ferplus needs fer2013.csv (the images, from kaggle.com/c/"
        "challenges-in-representation-learning-facial-expression-recognition-challenge) and "
        "fer2013new.csv (the votes, from github.com/microsoft/FERPlus), but there is "
        f"{missing} in {root / 'ferplus'} or {root}. Place both there, or pass --data_dir with "
        "the folder that has them."
    )


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        ("fer2013.csv", "pixels", "points", "must be a CSV file with the columns pixels, Usage ("),
        (
            "fer2013new.csv",
            "Image name",
            "Image",
            f"must be a CSV file with the columns {HEADER.replace(',', ', ')} (",
        ),
    ],
)
def test_wrong_columns_are_named(root, name, old, new, expected):
    edit(root / "ferplus" / name, old, new)
    text = fails(root)
    assert text.startswith(f"{root / 'ferplus' / name} {expected}")
    assert text.endswith("). Download it again.")


def test_files_of_different_lengths_are_refused(root):
    edit(root / "ferplus" / "fer2013new.csv", "Training,,0,0,0,0,0,0,0,0,0,10\n", "")
    assert fails(root) == (
        f"{root / 'ferplus/fer2013.csv'} has 9 rows and {root / 'ferplus/fer2013new.csv'} has 8, "
        "but row by row they must be about the same image. Download them again."
    )


def test_rows_in_another_order_are_refused(root):
    edit(root / "ferplus" / "fer2013new.csv", "PublicTest", "Training")
    assert fails(root) == (
        f"{root / 'ferplus/fer2013new.csv'}, row 5 (line 7): Usage must be 'PublicTest' as in "
        "fer2013.csv, got 'Training'. The files must have their rows in the same order."
    )


def test_an_unknown_usage_is_refused(root):
    edit(root / "ferplus" / "fer2013.csv", "PublicTest", "Validation")
    assert fails(root) == (
        f"{root / 'ferplus/fer2013.csv'}, row 5 (line 7): Usage must be one of Training, "
        "PublicTest, PrivateTest, got 'Validation'. Download it again."
    )


@pytest.mark.parametrize("vote", ["", "x", "-1", "2.5"])
def test_votes_that_are_no_counts_are_named(root, vote):
    edit(root / "ferplus" / "fer2013new.csv", "fer0000001.png,5", f"fer0000001.png,{vote}")
    assert fails(root) == (
        f"{root / 'ferplus/fer2013new.csv'}, row 1 (line 3): neutral must be a number of votes, "
        f"got {vote!r}. Download it again."
    )


def replace_pixels(root, row, values):
    images = root / "ferplus" / "fer2013.csv"
    lines = images.read_text().splitlines()
    emotion, _, usage = lines[row + 1].split(",")
    lines[row + 1] = f"{emotion},{' '.join(values)},{usage}"
    images.write_text("\n".join(lines))


@pytest.mark.parametrize(
    ("values", "got"),
    [
        (["7"] * 2303, "2303 values"),
        (["7"] * 2305, "2305 values"),
        ([], "0 values"),
        (["7"] * 2303 + ["256"], "the value '256'"),
        (["-1"] + ["7"] * 2303, "the value '-1'"),
        (["7"] * 2303 + ["1.5"], "the value '1.5'"),
        (["x"] + ["7"] * 2303, "the value 'x'"),
    ],
)
def test_wrong_pixels_are_named(root, values, got):
    replace_pixels(root, 3, values)
    assert fails(root) == (
        f"{root / 'ferplus/fer2013.csv'}, row 3 (line 5): pixels must be 2304 integers 0..255, "
        f"got {got}. Download it again."
    )


def test_pixels_that_are_too_few_in_every_row_are_named(root):
    for row in (1, 3):
        replace_pixels(root, row, ["7"] * 2000)
    assert "row 1 (line 3): pixels must be 2304 integers 0..255, got 2000 values" in fails(root)


@pytest.mark.parametrize("usage", ["Training", "PrivateTest"])
def test_a_split_without_a_row_is_refused(tmp_path, usage):
    write(tmp_path / "ferplus", [row for row in ROWS if row[0] != usage])
    assert fails(tmp_path) == (
        f"{tmp_path / 'ferplus/fer2013new.csv'}: no row of Usage {usage} has a label by majority. "
        "Download it again."
    )


# --- a run ---

QUICK = {"model": "cnn3", "epochs": 1, "batch_size": 8, "device": "cpu", "report": False}
SMALL = QUICK | {"dataset": "ferplus"}


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """24 training and 12 test rows, every other one divided between two emotions."""
    rows = [
        (
            "Training" if row < 24 else "PrivateTest",
            f"fer{row:07}.png",
            votes_for(row % 8) if row % 2 else [6, 0, 0, 0, 4, 0, 0, 0, 0, 0],
        )
        for row in range(36)
    ]
    folder = tmp_path_factory.mktemp("faces")
    write(folder, rows)
    return folder


@pytest.fixture(scope="module")
def train(train_once, faces):
    """A function that trains on the faces and returns the training and the evaluated split."""

    def go(**values):
        params = validate(TrainParams, SMALL | {"data_dir": str(faces)} | values)
        test = load_dataset(params)[1]
        return train_once(params), test.take(np.argsort(test.ids))

    return go


@pytest.fixture(scope="module")
def on_shares(train):
    """A training on shares, with every split and mode recorded."""
    everything = {"record": "test,train", "mode": "both", "save_probabilities": True}
    return train(ferplus_labels="probability", **everything)


def test_a_run_on_shares_records_the_divergence_of_eq_4_plus_the_entropy_of_the_shares(on_shares):
    trained, test = on_shares
    record = trained.record("test-probe")
    history = record.history()
    np.testing.assert_array_equal(history.sample_ids, test.ids)
    target = test.soft_labels.numpy().astype(float)
    predicted = record.probabilities().astype(float)
    expected = entropy(target, predicted, axis=1) + entropy(target, axis=1)
    np.testing.assert_allclose(history.losses[0], expected, rtol=1e-4)


def test_a_run_on_shares_is_never_taken_for_one_on_labels(on_shares, train):
    trained, _ = on_shares
    names = {trained.record(name).manifest.loss_name for name in trained.run.records}
    assert len(trained.run.records) == 3
    assert names == {"soft_cross_entropy"}
    assert train()[0].record().manifest.loss_name == "cross_entropy"


def test_a_run_on_shares_keeps_the_measures_of_the_most_likely_label(on_shares):
    trained, test = on_shares
    record, labels = trained.record("test-probe"), test.labels.numpy()
    np.testing.assert_array_equal(record.samples.labels, labels)
    expected = record.probabilities()[np.arange(len(labels)), labels]
    measured = record.history().measures["target_probability"][0]
    np.testing.assert_allclose(measured, expected, rtol=1e-4)


def test_a_training_on_shares_follows_the_gradient_of_their_cross_entropy(train, faces):
    """One step of plain gradient descent, by hand."""
    step = {"batch_size": 100, "optimizer": "sgd", "momentum": 0.0, "learning_rate": 0.1}
    step |= {"ferplus_labels": "probability", "save_model": True, "deterministic": True}
    trained, _ = train(**step)
    params = validate(TrainParams, SMALL | {"data_dir": str(faces)} | step)
    split, _ = load_dataset(params)
    seed_everything(params)
    model = build_model("cnn3", in_channels=1, image_size=(48, 48), n_classes=8)
    model.train()
    images = Normalisation.of(split).apply(split.images)
    loss = -(split.soft_labels * model(images).log_softmax(1)).sum(1).mean()
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    saved = torch.load(trained.folder / "model" / "weights.pt", weights_only=True)
    for (name, before), gradient in zip(model.named_parameters(), gradients, strict=True):
        torch.testing.assert_close(saved[name], before - 0.1 * gradient, rtol=1e-3, atol=1e-5)
