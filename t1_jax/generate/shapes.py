"""The few array shapes in which decoding happens, so that few programs are compiled."""

from dataclasses import dataclass

from t1_jax.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class BatchShapes:
    """Sizes a decoding batch may take.

    Attributes:
        max_rows: thoughts in flight at once.
        prefix_sizes: prompt lengths in tokens, ascending; a prompt takes the next size up.
        suffix_step: smallest suffix cache in slots; larger ones double.
        block: most steps between two looks at the batch from the host.
        shrink: a batch is cut down once this many times fewer places would do; less often saves
            programs, more often saves steps.
        batch_divisor: prompts in a batch are a multiple of this (devices along the batch axis).
    """

    max_rows: int = 32
    prefix_sizes: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
    suffix_step: int = 64
    block: int = 32
    shrink: int = 4
    batch_divisor: int = 1

    def __post_init__(self) -> None:
        if min(self.max_rows, self.suffix_step, self.block, self.batch_divisor) < 1:
            raise ConfigError("max_rows, suffix_step, block and batch_divisor must be positive")
        if self.shrink < 2:
            raise ConfigError(f"shrink must be at least 2, got {self.shrink}")
        if not self.prefix_sizes or list(self.prefix_sizes) != sorted(set(self.prefix_sizes)):
            raise ConfigError(f"prefix_sizes must ascend, got {self.prefix_sizes}")

    def prefix_size(self, tokens: int) -> int:
        """The size that a prompt of so many tokens is padded to.

        Raises:
            ConfigError: it is longer than the largest size.
        """
        for size in self.prefix_sizes:
            if tokens <= size:
                return size
        raise ConfigError(
            f"a prompt of {tokens} tokens is longer than the largest prefix size "
            f"{self.prefix_sizes[-1]}",
            hint="lower the longest query, or add a size to prefix_sizes",
        )

    def prompt_sizes(self, samples: int) -> tuple[int, ...]:
        """Prompts a batch of G = `samples` thoughts each may hold, descending."""
        most = max(self.max_rows // samples, 1)
        return self._ladder(-(-most // self.batch_divisor), self.batch_divisor)

    def thought_sizes(self, samples: int) -> tuple[int, ...]:
        """Thoughts per prompt a batch may be cut down to as they end, descending."""
        return self._ladder(samples, 1)

    def cut_down(self, now: int, fitting: int) -> int:
        """The size to go on with, where `fitting` of `now` places would do."""
        return fitting if fitting * self.shrink <= now else now

    def suffix_size(self, slots: int) -> int:
        """The smallest suffix cache with so many slots."""
        size = self.suffix_step
        while size < slots:
            size *= 2
        return size

    def most_programs(self, samples: int, max_thought_tokens: int, prefix_sizes: int) -> int:
        """Bound on the compiled decoding blocks of a run over so many different prefix sizes."""
        suffixes, size = 1, self.suffix_step
        while size < self.suffix_size(max_thought_tokens + 2 + self.block):
            suffixes, size = suffixes + 1, size * 2
        batches = len(self.prompt_sizes(samples)) * len(self.thought_sizes(samples))
        return batches * suffixes * prefix_sizes

    def _ladder(self, most: int, unit: int) -> tuple[int, ...]:
        sizes = [most]
        while sizes[-1] > 1:
            sizes.append(-(-sizes[-1] // 2))
        return tuple(size * unit for size in sizes)


def smallest_fit(sizes: tuple[int, ...], count: int) -> int:
    """The smallest of descending `sizes` that is at least `count`."""
    return min(size for size in sizes if size >= count)
