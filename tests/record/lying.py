"""Parquet files of a record that lie, with digests that fit."""

import pyarrow.parquet as pq
from record_files import promise


def replace_file(record, name, table, **options):
    """Write a table in the place of a file of the record, with a digest that fits."""
    path = record / name
    path.parent.mkdir(exist_ok=True)
    pq.write_table(table, path, compression="zstd", write_statistics=False, **options)
    promise(record, name)
    return path


def spelt(number, length=None):
    """An integer as Thrift's compact protocol writes it, in so many bytes."""
    number, out = (number << 1) ^ (number >> 63), []
    while True:
        out.append(number & 0x7F)
        number >>= 7
        if not number and len(out) >= (length or 0):
            return bytes(each | 0x80 for each in out[:-1]) + bytes(out[-1:])


def lie_in_footer(path, truth, lie, *, times=1):
    """Write another size into a Parquet footer, in as many bytes, wherever it stands."""
    data = bytearray(path.read_bytes())
    start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    footer = bytes(data[start:-8])
    assert footer.count(spelt(truth)) == times
    data[start:-8] = footer.replace(spelt(truth), spelt(lie, len(spelt(truth))))
    path.write_bytes(data)
