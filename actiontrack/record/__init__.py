"""The record: a loss history as files in one folder, with a manifest. Knows paths, not MLflow.

Layout of a record, format version 2::

    <split>-<mode>/
        samples.parquet            sample, sample_id, label, true_label, path, input_digest
        losses/000001.parquet      some steps: sample, step, loss, measures, loss components
        scores.parquet             one row per sample, written when the record is complete
        features.parquet           optional: sample, features (last-layer features)
        probabilities.parquet      optional: sample, probabilities (of the classes, final model)
        thumbnails.parquet         optional: sample, png
        boxes.parquet              optional: sample, kind, class, score, sides of boxes
        pictures/NAME.parquet      optional: sample, png, such as the label or the prediction
        maps/index.parquet         optional: where the map of pixel actions of each sample is
        maps/000000.parquet        optional: sample, height, width, map; whole maps of few samples
        manifest.json              written last, after every file that it names

Format version 1 had a file of losses for every step, blocks/000001.parquet, and listed the steps in
the manifest. It is read, and continued and compacted as version 2.

`sample` is the row position in canonical order: ascending ids. Files are plain Parquet (zstd,
BYTE_STREAM_SPLIT) that pandas, DuckDB, Dask and Spark read without this package. A null loss is a
sample that was not seen in that step; a NaN loss was seen. Nothing is ever pickled.

The manifest holds the digest and size of each file, and its own checksum. A file that the manifest
does not name does not belong to the record. Readers ignore fields and files that they don't know
and refuse a greater format version.
"""
