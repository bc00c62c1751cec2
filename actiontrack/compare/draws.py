"""The draws of a bootstrap over samples, as how often each resample holds each sample."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from actiontrack.compare.matrices import Floats

__all__ = [
    "RESAMPLES_AT_ONCE",
    "Resamples",
    "RestOfResamples",
]

#: Elements of a (resamples, runs, samples) block: temporaries of 4 MB stay in cache.
RESAMPLES_AT_ONCE = 2**19


@dataclass(frozen=True, kw_only=True)
class Resamples:
    """The draws of a bootstrap over samples, in chunks of a bounded size.

    Attributes:
        n_samples: number of samples, and of the draws of each resample.
        times: number of resamples.
        chunk: how many resamples are correlated at once.
        seed: of the draws.
    """

    n_samples: int
    times: int
    chunk: int
    seed: int

    @property
    def sizes(self) -> list[int]:
        """Number of resamples of each chunk."""
        return [min(self.chunk, self.times - start) for start in range(0, self.times, self.chunk)]

    def counts(self) -> Iterator[Floats]:
        """How often each sample occurs in each resample, (chunk, N), chunk by chunk."""
        yield from _drawn(np.random.default_rng(self.seed), self.sizes, self.n_samples)

    def split(self, n_parts: int) -> "Iterator[RestOfResamples]":
        """The same draws as parts that can be drawn apart."""
        rng, sizes = np.random.default_rng(self.seed), self.sizes
        width = max(1, -(-len(sizes) // n_parts))
        for start in range(0, len(sizes), width):
            sizes_of_part = sizes[start : start + width]
            yield RestOfResamples(rng.bit_generator.state, sizes_of_part, self.n_samples)
            for _ in _drawn(
                rng, sizes_of_part, self.n_samples
            ):  # so that the next part begins there
                pass


@dataclass(frozen=True)
class RestOfResamples:
    """Some chunks of `Resamples`: the state of the generator before them, and their sizes."""

    state: Mapping[str, object]
    sizes: Sequence[int]
    n_samples: int

    def counts(self) -> Iterator[Floats]:
        """As `Resamples.counts`, of these chunks."""
        rng = np.random.default_rng()
        rng.bit_generator.state = self.state
        yield from _drawn(rng, self.sizes, self.n_samples)


def _drawn(rng: np.random.Generator, sizes: Sequence[int], n: int) -> Iterator[Floats]:
    for size in sizes:
        yield _resample_counts(rng, size, n)


def _resample_counts(rng: np.random.Generator, times: int, n: int) -> Floats:
    """How often each of n samples occurs in each of ``times`` draws of n: (times, n)."""
    cells = rng.integers(0, n, size=(times, n)) + np.arange(times)[:, None] * n
    return np.bincount(cells.ravel(), minlength=times * n).reshape(times, n).astype(np.float64)
