"""The few array shapes in which decoding runs, so that few programs are compiled."""

from dataclasses import dataclass, replace

from t1_jax.errors import ConfigError

_SHRINK_FACTOR = 4
"""A batch shrinks once this many times fewer rows suffice. A larger factor compiles fewer programs,
a smaller one computes fewer idle rows."""


@dataclass(frozen=True, kw_only=True)
class BatchShapes:
    """Sizes that a decoding batch may have.

    Attributes:
        max_rows: most thoughts decoded at once.
        prefix_sizes: prompt lengths in tokens, ascending; a prompt is padded to the next size.
        suffix_step: smallest suffix cache in slots; larger ones double.
        chunk_steps: most decoding steps before the host looks at the batch again.
        batch_divisor: the number of prompts in a batch is a multiple of this (devices along the
            batch axis).
    """

    max_rows: int = 32
    prefix_sizes: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
    suffix_step: int = 64
    chunk_steps: int = 32
    batch_divisor: int = 1

    def __post_init__(self) -> None:
        if min(self.max_rows, self.suffix_step, self.chunk_steps, self.batch_divisor) < 1:
            raise ConfigError(
                "max_rows, suffix_step, chunk_steps and batch_divisor must be positive"
            )
        if not self.prefix_sizes or list(self.prefix_sizes) != sorted(set(self.prefix_sizes)):
            raise ConfigError(f"prefix_sizes must ascend, got {self.prefix_sizes}")

    def prefix_size(self, tokens: int) -> int:
        """The size that a prompt of this many tokens is padded to.

        Raises:
            ConfigError: the prompt is longer than the largest size.
        """
        for size in self.prefix_sizes:
            if tokens <= size:
                return size
        raise ConfigError(
            f"a prompt of {tokens} tokens is longer than the largest prefix size "
            f"{self.prefix_sizes[-1]}",
            hint="shorten the longest query, or add a size to prefix_sizes",
        )

    def with_prompts(self, most: int, n: int) -> "BatchShapes":
        """These shapes with at most `most` prompts in a batch, with n thoughts each.

        Raises:
            ConfigError: `most` is below 1.
        """
        if most < 1:
            raise ConfigError(f"batch_size must be at least 1, got {most}")
        return replace(self, max_rows=most * n)

    def prompt_sizes(self, n: int) -> tuple[int, ...]:
        """Numbers of prompts, with n thoughts each, that a batch may hold; descending."""
        most = max(self.max_rows // n, 1)
        return _halvings(-(-most // self.batch_divisor), self.batch_divisor)

    def thought_sizes(self, n: int) -> tuple[int, ...]:
        """Numbers of thoughts per prompt that a batch may shrink to as they end; descending."""
        return _halvings(n, 1)

    def suffix_size(self, slots: int) -> int:
        """The smallest suffix cache with at least this many slots."""
        size = self.suffix_step
        while size < slots:
            size *= 2
        return size


def smallest_fit(sizes: tuple[int, ...], count: int) -> int:
    """The smallest of `sizes` that is at least `count`."""
    return min(size for size in sizes if size >= count)


def shrunk(current: int, sufficient: int) -> int:
    """The size to continue with if `sufficient` of `current` rows are enough."""
    return sufficient if sufficient * _SHRINK_FACTOR <= current else current


def _halvings(most: int, unit: int) -> tuple[int, ...]:
    sizes = [most]
    while sizes[-1] > 1:
        sizes.append(-(-sizes[-1] // 2))
    return tuple(size * unit for size in sizes)
