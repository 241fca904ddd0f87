"""What a run learns from: collections, files of records, and where texts are cut."""

from dataclasses import dataclass, field
from typing import Literal

from t1_jax.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """One set of training queries and the corpus that they are asked of.

    Attributes:
        collection: a name that `t1 pull` knows, or a folder in the BEIR layout.
        records: JSONL or Parquet files of training records; none takes the collection's training
            queries, with thoughts from its own structure where the package knows it.
        documents: records made from the corpus itself join those (of a known collection).
        shortest_thoughts: of each record's thoughts the so many shortest are learnt from; None
            takes all.
    """

    collection: str
    records: tuple[str, ...] = ()
    documents: bool = False
    shortest_thoughts: int | None = None

    def __post_init__(self) -> None:
        if self.shortest_thoughts is not None and self.shortest_thoughts < 1:
            raise ConfigError(f"shortest_thoughts must be at least 1, got {self.shortest_thoughts}")


@dataclass(frozen=True, kw_only=True)
class LengthConfig:
    """Where texts are cut, in tokens; the defaults have room for the posts and passages of BRIGHT.

    Attributes:
        query: of a query's prompt, template included.
        thought: of a thought that is given.
        document: of a document with its template and `<emb_token>`.
    """

    query: int = 1024
    thought: int = 256
    document: int = 2048

    def __post_init__(self) -> None:
        for name in ("query", "thought", "document"):
            if self.__dict__[name] < 8:
                raise ConfigError(f"{name} must be at least 8 tokens, got {self.__dict__[name]}")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What is learnt from.

    Attributes:
        sources: by name.
        lengths: where texts are cut.
        near_duplicates: a training query whose text shares this much of its shingles (Jaccard
            similarity) with that of a held-out query counts as a leak; 1 wants them all.
        leaks: whether a held-out text in a file of records ends the run before it begins, or is
            taken out and counted as a collection's own queries and near duplicates always are.
    """

    sources: dict[str, SourceConfig] = field(default_factory=dict)
    lengths: LengthConfig = LengthConfig()
    near_duplicates: float = 0.8
    leaks: Literal["refuse", "remove"] = "refuse"

    def __post_init__(self) -> None:
        if not 0 < self.near_duplicates <= 1:
            raise ConfigError(
                f"near_duplicates must be over 0 and at most 1, got {self.near_duplicates}"
            )
