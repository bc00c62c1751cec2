"""Sizes of the images that boxes and maps of a record lie on."""

from actiontrack.store import StoredRecord

__all__ = ["recorded_size"]


def recorded_size(record: StoredRecord, row: int) -> tuple[float, float] | None:
    """Width and height of the image that boxes or a map of a sample were recorded on.

    In proportion: a map may be smaller by a factor. None without boxes and maps.
    """
    if record.boxes is not None:
        boxes = record.boxes
        sizes = boxes.loc[boxes["sample_id"] == record.samples.sample_ids[row], ["width", "height"]]
        if len(sizes):
            return float(sizes["width"].iloc[0]), float(sizes["height"].iloc[0])
    if record.has_maps:
        index = record.map_index
        sizes = index.loc[(index["sample"] == row) & (index["file"] >= 0), ["width", "height"]]
        if len(sizes):
            return float(sizes["width"].iloc[0]), float(sizes["height"].iloc[0])
    return None
