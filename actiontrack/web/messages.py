"""Messages for readers: what went wrong, without where the server keeps its files."""

import re

__all__ = ["without_paths"]

#: An absolute path or the address of a file or database, of which only the last part stays.
_PATH = re.compile(
    r"(?<![\w/.:~])"  # not in the middle of a word or of another path
    r"(?:(?:file|sqlite)(?:\+\w+)?:)?"
    r"/+(?:[^\s/'\"`,;()]+/+)+"
    r"(?P<name>[^\s/'\"`,;()]*)"
)


def without_paths(text: str, *folders: str, said: str = "") -> str:
    """A message in which each path on this server is cut to the name of its file.

    Args:
        text: the message.
        folders: folders that may be in it and whose names may hold blanks, such as that of a
            run's artifacts.
        said: what the reader has sent; a path in it is the reader's own and stays.

    >>> without_paths("/srv/ml flow/art/7/manifest.json is no JSON", "/srv/ml flow/art")
    'manifest.json is no JSON'
    >>> without_paths("no sample '/a/b.png'", said="id=/a/b.png")
    "no sample '/a/b.png'"
    """
    for folder in sorted(folders, key=len, reverse=True):
        if len(folder) > 1:
            text = text.replace(folder.rstrip("/"), "/…")

    def shorten(match: re.Match[str]) -> str:
        path = match[0].rstrip(".")
        return match[0] if path in said else match["name"]

    return _PATH.sub(shorten, text)
