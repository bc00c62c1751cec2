"""What every entry point that trains does with its command line and with a store that is away."""

from types import SimpleNamespace

import pytest

from actiontrack.errors import StoreError
from projects import train as train_classifier
from projects import train_autoencoder, train_detection, train_segmentation
from projects.distributed import Group
from projects.params import run_main

MODULES = (train_classifier, train_autoencoder, train_detection, train_segmentation)
CLASSES = ("TrainParams", "AutoencoderParams", "DetectionParams", "SegmentationParams")
pairs = pytest.mark.parametrize(("module", "params"), [*zip(MODULES, CLASSES, strict=True)])


@pairs
def test_an_entry_point_trains_with_the_parameters_of_its_command_line(
    module, params, monkeypatch, capsys
):
    calls = []

    def train(params, store, **options):
        calls.append((params, options))
        return SimpleNamespace(run_id="id"), False

    monkeypatch.setattr(module, "train", train)
    assert run_main(module.main, ["--epochs", "3", "--seed", "7"]) == StoreError.exit_code
    ((chosen, _),) = calls
    assert type(chosen).__name__ == params
    assert (chosen.epochs, chosen.seed) == (3, 7)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("module", MODULES)
def test_a_wrong_parameter_is_one_line_and_no_training_begins(module, monkeypatch, capsys):
    monkeypatch.setattr(module, "train", lambda *_, **__: pytest.fail("a training began"))
    assert run_main(module.main, ["--epochs", "none"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: epochs: must be an integer >= 1, got 'none'. Leave it")
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("module", [train_classifier, train_detection])
def test_a_process_that_is_not_the_first_trains_along_and_prints_nothing(
    module, monkeypatch, capsys
):
    assisted = []
    monkeypatch.setattr(module, "train", lambda *_, **__: pytest.fail("it spoke to the server"))
    monkeypatch.setattr(module, "assist", lambda *arguments: assisted.append(arguments))

    class Second:
        def __enter__(self):
            return Group(rank=1, size=2)

        def __exit__(self, *_):
            return False

    monkeypatch.setattr(module, "process_group", Second)
    assert module.main([]) == 0
    assert len(assisted) == 1
    assert capsys.readouterr().out == ""
