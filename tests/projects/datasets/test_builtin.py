"""Facts about projects/datasets/builtin.py; files are written in their exact on-disk formats."""

import gzip
import hashlib
import io
import pickle
import pickletools
import struct
import tarfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.error import URLError

import numpy as np
import pytest
from helpers import open_tar
from torchvision import datasets

from actiontrack.errors import DataError
from projects.datasets import load_dataset
from projects.datasets.builtin import BUILTIN
from projects.params import TrainParams, validate

MNIST_KIN = ["mnist", "fashion_mnist", "kmnist"]
CIFAR_CLASSES = [
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
]
TRAIN_BATCHES = [f"data_batch_{i}" for i in range(1, 6)]
MEGABYTES = {"mnist": 12, "fashion_mnist": 31, "kmnist": 21, "cifar10": 170}


def load(name, root):
    return load_dataset(validate(TrainParams, {"dataset": name, "data_dir": str(root)}))


def fails(name, root):
    with pytest.raises(DataError) as caught:
        load(name, root)
    return str(caught.value)


def md5(data):
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


# --- MNIST and its kin: idx files, plain or gzipped ---


def idx(array):
    """The idx format: two zero bytes, 8 for uint8, the number of axes, their sizes, the values."""
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return header + array.tobytes()


def mnist_arrays():
    rng = np.random.default_rng(0)
    arrays = {}
    for prefix, n in (("train", 20), ("t10k", 10)):
        arrays[f"{prefix}-images-idx3-ubyte"] = rng.integers(256, size=(n, 28, 28), dtype=np.uint8)
        arrays[f"{prefix}-labels-idx1-ubyte"] = rng.permutation(np.arange(n) % 10).astype(np.uint8)
    return arrays


@pytest.fixture(params=MNIST_KIN)
def name(request):
    return request.param


@pytest.fixture(params=["gzipped", "plain"])
def mnist_files(request, name, tmp_path, monkeypatch):
    kind, arrays, resources = BUILTIN[name], mnist_arrays(), []
    raw = tmp_path / kind.__name__ / "raw"
    raw.mkdir(parents=True)
    for file, array in arrays.items():
        packed = gzip.compress(idx(array))
        resources.append((f"{file}.gz", md5(packed)))
        if request.param == "gzipped":
            (raw / f"{file}.gz").write_bytes(packed)
        else:
            (raw / file).write_bytes(idx(array))
    monkeypatch.setattr(kind, "resources", resources)
    return tmp_path, arrays


def test_idx_files_placed_by_hand_are_read_in_their_order(name, mnist_files):
    root, arrays = mnist_files
    for split, prefix in zip(load(name, root), ("train", "t10k"), strict=True):
        images = arrays[f"{prefix}-images-idx3-ubyte"]
        np.testing.assert_array_equal(split.images[:, 0], images)
        np.testing.assert_array_equal(split.labels, arrays[f"{prefix}-labels-idx1-ubyte"])
        np.testing.assert_array_equal(split.ids, np.arange(len(images)))


def test_idx_datasets_have_ten_named_classes(name, mnist_files):
    third = {"mnist": "2", "fashion_mnist": "Pullover", "kmnist": "su"}
    names = load(name, mnist_files[0])[0].class_names
    assert (len(names), names[2]) == (10, third[name])


def test_a_truncated_idx_file_is_an_error_that_names_the_folder(name, mnist_files):
    root, _ = mnist_files
    load(name, root)  # unpacks
    (file,) = root.rglob("train-images-idx3-ubyte")
    file.write_bytes(file.read_bytes()[:500])
    assert str(file.parent) in fails(name, root)


def test_idx_files_that_are_unpacked_are_read_without_a_word(name, mnist_files, capsys):
    root, _ = mnist_files
    load(name, root)  # unpacks
    capsys.readouterr()
    load(name, root)
    assert capsys.readouterr().err == ""


# --- CIFAR-10: pickles of Python 2 in a tar file ---


class Python2Pickler(pickle._Pickler):
    """Writes text and bytes as Python 2 wrote its str, as in the real files."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_python2_str(self, text):
        data = text if isinstance(text, bytes) else text.encode("latin1")
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = save_python2_str


def python2_pickle(value):
    buffer = io.BytesIO()
    Python2Pickler(buffer, protocol=2).dump(value)
    return buffer.getvalue()


def cifar_arrays():
    rng = np.random.default_rng(0)
    return {
        file: rng.integers(256, size=(10, 3 * 32 * 32), dtype=np.uint8)
        for file in [*TRAIN_BATCHES, "test_batch"]
    }


@pytest.fixture(params=["tar", "folder"])
def cifar_files(request, tmp_path, monkeypatch):
    """Six batches of ten images: each pixel row is 1,024 values of red, of green and of blue."""
    arrays = cifar_arrays()
    meta = {"num_cases_per_batch": 10, "label_names": CIFAR_CLASSES, "num_vis": 3072}
    files = {"batches.meta": python2_pickle(meta)}
    for file, data in arrays.items():
        batch = {"batch_label": file, "labels": list(range(10)), "data": data}
        files[file] = python2_pickle(batch | {"filenames": [f"{i}.png" for i in range(10)]})
    sums = {file: md5(content) for file, content in files.items()}
    kind = datasets.CIFAR10
    monkeypatch.setattr(kind, "train_list", [[file, sums[file]] for file in TRAIN_BATCHES])
    monkeypatch.setattr(kind, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(kind, "meta", kind.meta | {"md5": sums["batches.meta"]})
    archive = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for file, content in files.items():
            entry = tarfile.TarInfo(f"cifar-10-batches-py/{file}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    monkeypatch.setattr(kind, "tgz_md5", md5(archive.read_bytes()))
    if request.param == "folder":
        with open_tar(archive) as tar:
            tar.extractall(tmp_path)  # noqa: S202 - filtered, and written above
        archive.unlink()
    return tmp_path, arrays


def test_the_pickles_are_those_of_python_2():
    codes = {code.name for code, _, _ in pickletools.genops(python2_pickle({"a": b"b"}))}
    assert "BINSTRING" in codes
    assert not codes & {"BINUNICODE", "SHORT_BINBYTES", "BINBYTES"}


def test_cifar10_batches_are_read_in_the_official_order(cifar_files):
    root, arrays = cifar_files
    train, test = load("cifar10", root)
    expected = np.concatenate([arrays[file] for file in TRAIN_BATCHES])
    np.testing.assert_array_equal(train.images, expected.reshape(50, 3, 32, 32))
    np.testing.assert_array_equal(test.images, arrays["test_batch"].reshape(10, 3, 32, 32))
    np.testing.assert_array_equal(train.ids, np.arange(50))
    assert train.labels.tolist() == list(range(10)) * 5
    assert train.class_names == tuple(CIFAR_CLASSES)


def test_cifar10_that_is_unpacked_is_read_without_a_word(cifar_files, capsys):
    load("cifar10", cifar_files[0])  # unpacks
    capsys.readouterr()
    load("cifar10", cifar_files[0])
    assert capsys.readouterr().err == ""


# --- downloading ---


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Keep stderr for what is tested."""


class QuietServer(ThreadingHTTPServer):
    def handle_error(self, *_):
        """Keep stderr for what is tested: a client that has all it asked for may hang up."""


@pytest.fixture
def publish(monkeypatch):
    """A function that makes the files of a folder what torchvision downloads."""
    with QuietServer(("127.0.0.1", 0), QuietHandler) as server:

        def point_to(folder):
            server.RequestHandlerClass = partial(QuietHandler, directory=folder)
            source = f"http://127.0.0.1:{server.server_port}/"
            for name in MNIST_KIN:
                monkeypatch.setattr(BUILTIN[name], "mirrors", [source])
            monkeypatch.setattr(datasets.CIFAR10, "url", f"{source}cifar-10-python.tar.gz")

        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield point_to
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("mnist_files", ["gzipped"], indirect=True)
def test_a_download_of_idx_files_begins_with_a_line_on_stderr(
    name, mnist_files, publish, tmp_path, capsys
):
    published, arrays = mnist_files
    publish(published / BUILTIN[name].__name__ / "raw")
    train, _ = load(name, tmp_path / "new")
    np.testing.assert_array_equal(train.images[:, 0], arrays["train-images-idx3-ubyte"])
    lines = capsys.readouterr().err.splitlines()
    size = f"about {MEGABYTES[name]} MB"
    assert lines[0] == f"downloading {name} ({size}) to {tmp_path / 'new'}"
    assert sum("100%" in line for line in lines) >= 4  # torchvision's bar of each file


@pytest.mark.parametrize("cifar_files", ["tar"], indirect=True)
def test_a_download_of_cifar10_begins_with_a_line_on_stderr(cifar_files, publish, tmp_path, capsys):
    publish(cifar_files[0])
    train, _ = load("cifar10", tmp_path / "new")
    assert len(train) == 50
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"downloading cifar10 (about 170 MB) to {tmp_path / 'new'}"
    assert "100%" in lines[-1]


@pytest.mark.parametrize("cifar_files", ["tar"], indirect=True)
def test_an_archive_placed_by_hand_is_said_to_be_unpacked(cifar_files, capsys):
    load("cifar10", cifar_files[0])
    assert capsys.readouterr().err == f"unpacking cifar10 in {cifar_files[0]}\n"


# --- no network ---

KINDS = ("images-idx3", "labels-idx1")
IDX_FILES = ", ".join(f"{p}-{k}-ubyte.gz" for p in ("train", "t10k") for k in KINDS)
MISSING = {
    "mnist": (IDX_FILES, "MNIST/raw"),
    "fashion_mnist": (IDX_FILES, "FashionMNIST/raw"),
    "kmnist": (IDX_FILES, "KMNIST/raw"),
    "cifar10": ("cifar-10-python.tar.gz", ""),
}


@pytest.mark.parametrize("missing", MISSING)
def test_without_a_network_the_error_tells_which_files_to_place_where(
    missing, tmp_path, monkeypatch
):
    def unreachable(*_, **__):
        raise URLError("no route to host")

    for module in ("mnist", "cifar"):
        target = f"torchvision.datasets.{module}.download_and_extract_archive"
        monkeypatch.setattr(target, unreachable)
    files, folder = MISSING[missing]
    assert fails(missing, tmp_path) == (
        f"{missing} is not in the data_dir {tmp_path} and could not be downloaded (<urlopen error "
        f"no route to host>). Without a network place {files} in {tmp_path / folder}, or pass "
        "--data_dir with the folder that has them."
    )


def test_a_data_dir_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    text = fails("mnist", tmp_path / "file")
    assert text.startswith(f"mnist is not in the data_dir {tmp_path / 'file'} and")
