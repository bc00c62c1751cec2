"""Facts about projects/params/reading.py, on the parameters of a classifier."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from actiontrack.errors import DataError, ParameterError
from actiontrack.store import Terminated
from projects.models import MODELS
from projects.params import (
    DATASETS,
    Params,
    TrainParams,
    defaults,
    parse,
    rule_of,
    run_main,
    to_strings,
    usage,
    validate,
)


def message(*argv):
    with pytest.raises(ParameterError) as caught:
        parse(TrainParams, argv)
    return str(caught.value)


def test_no_arguments_give_the_defaults():
    params = parse(TrainParams, [])
    assert (params.dataset, params.model, params.epochs, params.batch_size) == (
        *("digits", "cnn_keras"),
        *(12, 128),
    )
    assert (params.record, params.mode, params.deterministic) == (("test",), "probe", True)


@pytest.mark.parametrize(
    "argv",
    [
        ["--batch_size", "7"],
        ["--batch-size", "7"],
        ["--batch_size=7"],
        ["--batch-size=7"],
    ],
)
def test_names_take_dashes_or_underscores_and_values_a_space_or_an_equals_sign(argv):
    assert parse(TrainParams, argv).batch_size == 7


def test_a_value_may_hold_an_equals_sign():
    assert parse(TrainParams, ["--data_dir=a=b"]).data_dir == "a=b"


def test_a_value_may_be_a_negative_number():
    assert parse(TrainParams, ["--noise_seed", "-1"]).noise_seed == -1


def test_a_value_may_be_empty():
    assert parse(TrainParams, ["--run_id", ""]).run_id == ""


@pytest.mark.parametrize("word", ["true", "True", "TRUE"])
def test_true_is_read_in_any_case(word):
    assert parse(TrainParams, ["--save_model", word]).save_model is True


def test_false_is_read_as_false():
    assert parse(TrainParams, ["--deterministic", "False"]).deterministic is False


def test_record_keeps_the_order_of_its_comma_list():
    assert parse(TrainParams, ["--record", "train,test"]).record == ("train", "test")


def test_a_folder_dataset_keeps_its_path():
    assert parse(TrainParams, ["--dataset", "folder:a b/c"]).dataset == "folder:a b/c"


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (
            ["--epochs", "0"],
            "epochs: must be an integer >= 1, got '0'. Leave it out for the default, 12.",
        ),
        (
            ["--epochs", "3.5"],
            "epochs: must be an integer >= 1, got '3.5'. Leave it out for the default, 12.",
        ),
        (
            ["--learning_rate", "nan"],
            "learning_rate: must be a number > 0, got 'nan'. Leave it out for the default, 0.001.",
        ),
        (
            ["--label_noise", "1"],
            (
                "label_noise: must be a number >= 0 and < 1, got '1'. "
                "Leave it out for the default, 0.0."
            ),
        ),
        (
            ["--optimizer", "lion"],
            (
                "optimizer: must be one of adam, sgd, adamw, got 'lion'. "
                "Leave it out for the default, adam."
            ),
        ),
        (
            ["--save_model", "1"],
            "save_model: must be true or false, got '1'. Leave it out for the default, false.",
        ),
        (
            ["--dataset", "folder:"],
            (
                "dataset: must be one of digits, mnist, fashion_mnist, kmnist, cifar10, "
                "ferplus, folder:PATH, got 'folder:'. Leave it out for the default, digits."
            ),
        ),
        (
            ["--record", "test,test"],
            (
                "record: must be a comma list of test, train without repeats, got 'test,test'. "
                "Leave it out for the default, test."
            ),
        ),
        (
            ["--record", "validation"],
            (
                "record: must be a comma list of test, train without repeats, got 'validation'. "
                "Leave it out for the default, test."
            ),
        ),
        (
            ["--epoch", "3"],
            "epoch: must be the name of a parameter, got '--epoch'. Did you mean --epochs?",
        ),
        (
            ["--zzz", "3"],
            (
                "zzz: must be the name of a parameter, got '--zzz'. "
                "Run with --help to see all parameters."
            ),
        ),
        (
            ["--epochs"],
            (
                "epochs: must be followed by a value, got '--epochs'. "
                "Pass --epochs VALUE or --epochs=VALUE."
            ),
        ),
        (
            ["--save_model", "--epochs", "3"],
            (
                "save_model: must be followed by a value, got '--save_model'. "
                "Pass --save_model VALUE or --save_model=VALUE."
            ),
        ),
        (
            ["3"],
            "command line: must be pairs of --name value, got '3'. Put --NAME before the value.",
        ),
        (
            ["--seed", "1", "--seed", "2"],
            "seed: must be given once, got '2'. Remove one of the two.",
        ),
        (
            ["--warmup_epochs", "12"],
            (
                "warmup_epochs: must be an integer < epochs, which is 12, got 12. "
                "Pass --warmup_epochs 11 or less, or more epochs."
            ),
        ),
        (
            ["--record=train", "--mode=inline", "--record_initial=true"],
            (
                "record_initial: must be false when nothing is probed: the untrained model has no "
                "training batch, got True. Pass --mode both or --record_initial false."
            ),
        ),
    ],
)
def test_a_refusal_names_argument_rule_value_and_remedy(argv, expected):
    assert message(*argv) == expected


def test_names_are_not_abbreviated():
    assert message("--batch", "3").startswith("batch: must be the name of a parameter")


def test_inline_is_taken_when_train_is_recorded():
    argv = ["--record", "test,train", "--mode", "inline"]
    assert parse(TrainParams, argv).mode == "inline"


def test_validate_takes_python_values_as_well_as_text():
    assert validate(TrainParams, {"epochs": 3, "save_model": True}) == validate(
        TrainParams, {"epochs": "3", "save_model": "true"}
    )


def test_validate_refuses_an_unknown_name():
    with pytest.raises(ParameterError, match=r"^sede: .* Did you mean --seed\?$"):
        validate(TrainParams, {"sede": 1})


def test_a_required_parameter_that_is_missing_is_named():
    class Needs(Params):
        """Title."""

        path: str

    with pytest.raises(ParameterError, match=r"^path: must be text, .* Pass --path VALUE\.$"):
        parse(Needs, [])


def test_parameters_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        parse(TrainParams, []).epochs = 3


@given(
    epochs=st.integers(1, 10**6),
    learning_rate=st.floats(1e-9, 1e3),
    record=st.sampled_from([("test",), ("train",), ("test", "train"), ("train", "test")]),
    deterministic=st.booleans(),
    run_id=st.text().filter(lambda text: not text.startswith("--")),
)
def test_parameters_survive_the_way_through_text(**values):
    params = validate(TrainParams, values)
    argv = [word for name, text in to_strings(params).items() for word in (f"--{name}", text)]
    assert parse(TrainParams, argv) == params


def test_help_shows_description_rule_and_default_of_each_parameter_and_exits_0(capsys):
    with pytest.raises(SystemExit) as caught:
        parse(TrainParams, ["--epochs", "3", "--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for name, field in TrainParams.model_fields.items():
        rule, default = rule_of(field).removeprefix("must be "), defaults(TrainParams)[name]
        expected = f"--{name} VALUE {field.description} ({rule}) [default: {default or 'empty'}]"
        assert expected in text


def test_help_says_which_parameter_is_required():
    class Needs(Params):
        """Title."""

        path: str = Field(description="where")

    assert "--path VALUE  where (text) [required]" in usage(Needs)


def test_every_parameter_has_a_description():
    assert all(field.description for field in TrainParams.model_fields.values())


def test_usage_says_what_the_entry_point_does():
    assert "\n\n  Train a classifier and record every sample's loss.\n\n" in usage(TrainParams)


def test_help_takes_no_value():
    text = (
        "command line: must be readable, got \"Option '--help' does not take a value.\". "
        "Run with --help to see all parameters."
    )
    assert message("--help=3") == text


def test_every_model_and_dataset_that_is_offered_exists():
    rule = rule_of(TrainParams.model_fields["model"])
    assert rule == f"must be one of {', '.join(MODELS)}"
    assert all(parse(TrainParams, ["--dataset", name]).dataset == name for name in DATASETS)


def test_data_dir_auto_is_a_folder_of_the_user():
    path = parse(TrainParams, []).data_path
    assert path.is_absolute()
    assert path.parts[-2:] == ("actiontrack", "datasets")


def test_data_dir_expands_the_home_folder():
    assert parse(TrainParams, ["--data_dir", "~/x"]).data_path == Path.home() / "x"


def test_the_noise_seed_follows_the_seed_unless_given():
    assert parse(TrainParams, ["--seed", "5"]).effective_noise_seed == 5
    assert parse(TrainParams, ["--seed", "5", "--noise_seed", "0"]).effective_noise_seed == 0


def fail_with(error):
    def main(_):
        raise error

    return main


def test_run_main_passes_the_words_and_the_exit_code_on():
    assert run_main(len, ["a", "b"]) == 2


def test_run_main_takes_the_words_of_the_process(monkeypatch):
    monkeypatch.setattr("sys.argv", ["program", "a"])
    assert run_main(lambda argv: 7 if argv == ["a"] else 1) == 7


def test_run_main_returns_0_for_none():
    assert run_main(lambda _: None, []) == 0


def test_run_main_prints_an_expected_error_without_a_traceback(capsys):
    assert run_main(fail_with(DataError("no images")), []) == 8
    assert capsys.readouterr().err == "error: no images\n"


def test_run_main_returns_130_after_control_c():
    assert run_main(fail_with(KeyboardInterrupt()), []) == 130


def test_run_main_lets_a_programming_error_through():
    with pytest.raises(ZeroDivisionError):
        run_main(fail_with(ZeroDivisionError()), [])


def test_sigterm_is_a_line_and_exit_code_143(capsys):
    def main(_):
        raise Terminated(15)

    assert run_main(main, []) == 143
    assert capsys.readouterr().err == "terminated: what was recorded is safe\n"
