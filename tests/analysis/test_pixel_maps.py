"""Maps of pixel actions on the reading side: comparison, ranking, figures, command line."""

import io

import matplotlib.colors as mcolors
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from helpers import message, with_peak
from PIL import Image
from scipy.stats import pearsonr, spearmanr

from actiontrack import analysis, plots, reporting
from actiontrack.analysis import pixels
from actiontrack.cli import cli, main
from actiontrack.errors import NotComparableError, NotFoundError, ParameterError
from actiontrack.recorder import Recorder

IDS = ["x", "y"]
CLASSES = np.array([[0, 0, 1, 1], [0, 2, 2, 1]], dtype=np.uint8)


def label_png():
    image = Image.fromarray(CLASSES)
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 0])
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def record(store, record_once):
    """A function that records maps of two samples of 2x4 pixels in a run of its own."""

    def go(seed=0, epochs=2, shape=(2, 4), **options):
        given = {"pixel_loss_name": "focal", "void": "counted", "model": "net"}
        given |= {"class_names": ("sky", "road", "void")} | options

        def fill(run_id):
            rng = np.random.default_rng(seed)
            with Recorder(store=store, run_id=run_id, **given) as recorder:
                for _ in range(epochs):
                    maps = rng.exponential(size=(2, *shape))
                    recorder.update(IDS, maps.mean(axis=(1, 2)))
                    recorder.update_maps(IDS, maps)
                    recorder.end_epoch()
                recorder.log_pictures("label", IDS, [label_png()] * 2)
                recorder.log_thumbnails(IDS, [label_png()] * 2)

        content = ("maps", seed, epochs, shape, given)
        return store.open_record(record_once(content, fill, run_name=f"seed {seed}"))

    return go


def test_maps_of_a_sample_are_correlated_between_runs(record):
    records = [record(0), record(1), record(2, model="other")]
    frame = analysis.map_correlation(records)
    assert len(frame) == 3 * 2 * 2  # pairs, samples, methods
    assert frame.groupby("kind").size().to_dict() == {"cross-model": 8, "same-model": 4}
    by_run = {each.run.run_id: each for each in records}
    for row in frame.itertuples():
        sample, runs = IDS.index(row.sample_id), (row.run_a, row.run_b)
        maps = [by_run[each].pixel_action(sample) for each in runs]
        function = spearmanr if row.method == "spearman" else pearsonr
        assert row.value == pytest.approx(function(*(each.ravel() for each in maps)).statistic)
        assert row.n_pixels == 8


def test_the_finding_of_map_correlations_is_a_sentence_with_numbers(record):
    frame = analysis.map_correlation([record(0), record(1)])
    values = frame.query("method == 'spearman'")["value"]
    low, median, high = values.quantile([0.25, 0.5, 0.75])
    assert reporting.describe_map_correlation(frame) == (
        "Spearman's ρ of the pixel actions of a sample between runs, over 2 samples: same-model "
        f"median {median:.3f} (middle half {low:.3f} to {high:.3f})."
    )


@pytest.mark.parametrize("at_once", [1, 2, 64])
def test_sums_by_chunk_are_those_of_all_maps_at_once(record, monkeypatch, at_once):
    monkeypatch.setattr(pixels, "_MAPS", at_once)
    opened = record()
    whole = np.stack([opened.pixel_action(0), opened.pixel_action(1)]).astype(np.float64)
    classes = np.stack([CLASSES, CLASSES])
    frame = analysis.pixel_classes(opened).set_index("class")
    for value, name in enumerate(("sky", "road", "void")):
        held = whole[classes == value]
        row = frame.loc[name]
        assert row["mean"] == pytest.approx(held.mean(), rel=1e-12)
        assert row["std"] == pytest.approx(held.std(), rel=1e-6)
        assert row["share_action"] == pytest.approx(held.sum() / whole.sum(), rel=1e-12)


def test_many_maps_take_the_memory_of_few(store, new_run):
    """Classes of 200 maps of 64 x 64 pixels: 3.3 MB of float32, of which a few are held at once."""
    rng, ids, shape = np.random.default_rng(0), np.arange(200), (64, 64)
    run_id = new_run()
    options = {"pixel_loss_name": "focal", "void": "counted", "class_names": ("sky", "road")}
    with Recorder(store=store, run_id=run_id, **options) as recorder:
        recorder.update(ids, rng.exponential(size=200))
        recorder.update_maps(ids, rng.exponential(size=(200, *shape)))
        recorder.end_epoch()
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 2, shape).astype(np.uint8)).save(buffer, "PNG")
        recorder.log_pictures("label", ids, [buffer.getvalue()] * 200)
    opened = store.open_record(run_id)
    frame, peak = with_peak(lambda: analysis.pixel_classes(opened))
    assert frame["n_pixels"].sum() == 200 * 64 * 64
    assert peak < 200 * 64 * 64 * 4 / 2


def test_maps_of_another_pixel_loss_are_not_compared(record):
    first, second = record(0), record(1, pixel_loss_name="cross_entropy")
    expected = (
        "the maps do not measure the same thing: pixel loss and down-sampling are ('focal', 1) in "
        f"run {first.run.run_id} (seed 0) and ('cross_entropy', 1) in run {second.run.run_id} "
        "(seed 1). Choose runs that agree in it."
    )
    with pytest.raises(NotComparableError, match=message(expected)):
        analysis.map_correlation([first, second])


def test_maps_of_another_size_are_not_compared(record):
    records = [record(0), record(1, shape=(3, 4))]
    expected = "the maps of sample x differ in size: 4x2, 4x3. Choose runs that agree in it."
    with pytest.raises(NotComparableError, match=message(expected)):
        analysis.map_correlation(records)


def test_records_of_another_void_treatment_are_not_compared(record):
    first, second = record(0), record(1, void="ignored")
    expected = (
        "the runs do not measure the same thing: void is 'counted' in run "
        f"{first.run.run_id} (seed 0) and 'ignored' in run {second.run.run_id} (seed 1). Choose "
        "runs that agree in it."
    )
    with pytest.raises(NotComparableError, match=message(expected)):
        analysis.compare_runs([first, second], n_bootstrap=0)


@pytest.mark.parametrize("methods", [("kendall",), ("spearman", "kendall"), ()])
def test_maps_are_not_correlated_by_an_unknown_method_or_by_none(record, methods):
    rule = "must come from ['spearman', 'pearson']"
    text = f"methods: {rule}, got {list(methods)}. Pass one or both of them."
    with pytest.raises(ParameterError, match=message(text)):
        analysis.map_correlation([record(0), record(1)], methods=methods)


def test_one_run_has_no_map_correlation(record):
    expected = "records: must be two runs or more, got 1. Choose more."
    with pytest.raises(ParameterError, match=message(expected)):
        analysis.map_correlation([record()])


def test_classes_rank_by_the_mean_of_their_pixels(record):
    opened = record()
    maps = np.stack([opened.pixel_action(0), opened.pixel_action(1)])
    frame = analysis.pixel_classes(opened)
    means = {name: maps[:, value == CLASSES].mean() for value, name in enumerate(("sky", "road"))}
    means["void"] = maps[:, CLASSES == 2].mean()
    assert frame["class"].tolist() == sorted(means, key=lambda name: -means[name])
    np.testing.assert_allclose(frame["mean"], [means[each] for each in frame["class"]])
    assert frame.set_index("class")["n_pixels"].to_dict() == {"sky": 6, "road": 6, "void": 4}
    np.testing.assert_allclose(frame["lift"], frame["mean"] / maps.mean())


def test_down_sampled_maps_rank_the_classes_of_whole_blocks(record):
    opened = record(map_factor=2)
    assert opened.pixel_action(0).shape == (1, 2)
    frame = analysis.pixel_classes(opened).set_index("class")
    blocks = np.stack([opened.pixel_action(each) for each in range(2)]).repeat(2, 1).repeat(2, 2)
    assert frame["mean"]["void"] == pytest.approx(blocks[:, CLASSES == 2].mean())


def test_regions_are_connected_pixels_of_a_class(record):
    opened = record()
    regions = analysis.pixel_regions(opened, 100, min_pixels=1)
    sky = regions.query("sample_id == 'x' and `class` == 'sky'")
    assert sky[["n_pixels", "top", "left", "bottom", "right"]].to_numpy().tolist() == [
        [3, 0, 0, 2, 2]
    ]
    assert sky["mean"].iloc[0] == pytest.approx(opened.pixel_action(0)[CLASSES == 0].mean())


def test_without_a_region_the_columns_are_there(record):
    opened = record()
    empty = analysis.pixel_regions(opened, min_pixels=100)
    assert empty.empty
    assert list(empty.columns) == list(analysis.pixel_regions(opened, min_pixels=1).columns)


def test_the_figure_has_a_row_per_sample_and_a_colour_bar(record):
    opened = record()
    figure, missing = reporting.pixel_figure(opened, analysis.score_frame([opened]))
    assert missing == 0
    titles = [axes.get_title() for axes in figure.axes[:3]]
    assert titles == ["image", "label", "pixel action"]
    assert figure.axes[-1].get_ylabel() == "action (focal × epochs)"
    np.testing.assert_array_equal(figure.axes[2].images[0].get_array(), opened.pixel_action(0))
    legend = figure.legends[0]
    assert [each.get_text() for each in legend.get_texts()] == ["sky", "road", "void"]
    assert mcolors.to_rgb(legend.get_patches()[1].get_facecolor()) == (0, 1, 0)


def test_a_figure_of_maps_needs_a_title_for_each():
    expected = (
        "titles: must hold one title for each of the 1 maps, got 0. Pass one picture row per map, "
        "too."
    )
    with pytest.raises(ParameterError, match=message(expected)):
        plots.pixel_maps([{}], [np.zeros((2, 2))], [])


def test_bars_of_classes_start_with_the_hardest():
    frame = pd.DataFrame(
        {"class": ["pole", "sky", "void"], "mean": [4.0, 1.0, np.nan],
         "share_pixels": [0.25, 0.75, 0.0]}
    )  # fmt: skip
    axes = plots.pixel_classes(frame)
    assert [each.get_text() for each in axes.get_yticklabels()] == ["pole", "sky"]
    assert axes.lines[0].get_xdata()[0] == pytest.approx(1.75)
    assert axes.get_title(loc="left") == "1 class not finite, not drawn"


@pytest.fixture
def run(tracking_uri):
    def go(*arguments):
        return CliRunner().invoke(cli, [*arguments, "--tracking-uri", tracking_uri])

    return go


def test_the_command_draws_given_samples_and_ranks_the_classes(run, record, tmp_path):
    opened = record()
    found = run("maps", "--run", opened.run.run_id, "--sample", "y", "--plot", tmp_path / "m")
    assert found.exit_code == 0, found.output
    assert (tmp_path / "m.png").stat().st_size > 5000
    assert found.stdout.splitlines()[0].split()[:4] == ["run_name", "model", "class", "n_pixels"]


def test_the_command_correlates_several_runs(tracking_uri, record, capsys):
    ids = [record(seed).run.run_id for seed in (0, 1)]
    capsys.readouterr()
    words = ["--run", ids[0], "--run", ids[1], "--format", "csv", "--tracking-uri", tracking_uri]
    main(["maps", *words])
    printed = capsys.readouterr()
    assert len(pd.read_csv(io.StringIO(printed.out))) == 4
    assert "Spearman's ρ of the pixel actions" in printed.err


def test_export_writes_the_ranking_of_classes(run, record, tmp_path):
    opened = record()
    found = run("export", "--run", opened.run.run_id, "--output", tmp_path)
    assert found.exit_code == 0, found.output
    assert len(pd.read_parquet(tmp_path / "pixel_classes.parquet")) == 3


def test_a_sample_that_is_not_there_is_named(record):
    opened = record()
    expected = (
        f"record test-probe of run {opened.run.run_id} has no sample 'z'. Its ids look like x."
    )
    with pytest.raises(NotFoundError, match=message(expected)):
        analysis.positions(opened, ["z"])


def test_every_analysis_takes_a_record_without_labels(record):
    records = [record(0, epochs=3), record(1, epochs=3)]
    assert set(analysis.score_frame(records)["class"]) == {"all"}
    assert reporting.run_report(records[0]).sections
    comparison = analysis.compare_runs(records, n_bootstrap=0)
    assert set(comparison.groups["class"]) == {"overall"}
    assert reporting.comparison_report(records, comparison).sections
