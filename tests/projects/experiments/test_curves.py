"""The experiment of Fig. 1 to 5, on digits."""

from projects.experiments import curves


def test_one_training_gives_clusters_galleries_neighbours_and_when_to_stop(
    experiment, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", experiment)
    curves.main(["--subset", "200", "--test_subset", "60", "--epochs", "4", "--queries", "3"])
    printed = capsys.readouterr().out
    assert "The mean loss curves of 3 clusters" in printed
    assert "of the 8 nearest neighbours of 3 samples are of the sample's own class" in printed
    assert "of 4 epochs Spearman's ρ with the full score is at least 0.95" in printed
    (page,) = (tmp_path / "artifacts").glob("*/artifacts/curves")
    figures = {path.stem.partition("-")[2] for path in (page / "figures").glob("*.png")}
    assert figures == {
        "distribution",
        "difficulty-per-class",
        "loss-of-the-hardest-samples",
        "clusters-of-loss-curves",
        "samples-closest-to-the-centre-of-each-cluster",
        "hardest-samples",
        "easiest-samples",
        "nearest-neighbours-of-the-hardest-samples",
        "samples-in-feature-space",
        "action-against-entropy",
        "accuracy-by-threshold",
        "when-recording-could-have-stopped",
    }
