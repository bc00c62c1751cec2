"""Which runs the parameters of a comparison choose, and the trainings of the demo."""

import pytest

from projects.params import CompareParams, DemoParams, TrainParams, parse, validate


def query(*argv):
    return parse(CompareParams, argv).query("own")


def test_without_a_choice_the_runs_are_those_of_the_run_s_own_experiment():
    chosen = query()
    assert (chosen.run_ids, chosen.experiments) == ((), ("own",))
    assert (chosen.filter_string, chosen.record) == ("", None)


def test_another_experiment_a_filter_and_a_record_may_be_named():
    chosen = query("--experiment", "e", "--filter", "params.seed = '1'", "--record", "test-probe")
    assert (chosen.experiments, chosen.record) == (("e",), "test-probe")
    assert chosen.filter_string == "params.seed = '1'"


def test_run_ids_are_read_without_their_blanks_and_of_any_experiment():
    chosen = query("--run_ids", " a, b ,,c")
    assert (chosen.run_ids, chosen.experiments) == (("a", "b", "c"), ())


@pytest.mark.parametrize(("up_to_step", "expected"), [("-1", None), ("0", 0), ("5", 5)])
def test_minus_one_is_every_step(up_to_step, expected):
    assert parse(CompareParams, ["--up_to_step", up_to_step]).step_limit == expected


def test_every_training_of_the_demo_has_its_data_and_length():
    params = parse(DemoParams, ["--epochs", "3", "--subset", "50", "--seeds", "3"])
    shared = params.shared()
    assert shared == {"dataset": "digits", "epochs": "3", "subset": "50"}
    assert validate(TrainParams, shared).epochs == 3
    assert list(params.seed_numbers) == [0, 1, 2]
