"""Constrained decoding: thoughts that are one of a set of texts, by a trie of their tokens."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from t1_jax.errors import ConfigError
from t1_jax.generate.sampling import SamplingParams
from t1_jax.parallel import MeshContext, host_to_global


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class TokenTrie:
    """A trie on the devices, in breadth-first order: edge e leads to node e + 1, the root is 0.

    Attributes:
        first_edge: first edge of each node; the edges of node i end where those of i + 1 begin.
        tokens: token of each edge, ascending within a node.
        max_children: at least the number of edges of any node.
    """

    first_edge: Int[Array, " nodes"]
    tokens: Int[Array, " edges"]
    max_children: int = field(metadata={"static": True})

    def children(self, nodes: Int[Array, " B"], vocab_size: int) -> Int[Array, "B children"]:
        """Tokens that may follow at each node; `vocab_size` where there are fewer."""
        edges = self._edges(nodes)
        is_edge = edges < self.first_edge[nodes + 1][:, None]
        tokens = self.tokens[jnp.minimum(edges, len(self.tokens) - 1)]
        return jnp.where(is_edge, tokens, vocab_size)

    def banned(
        self, nodes: Int[Array, " B"], children: Int[Array, "B children"], vocab_size: int, end: int
    ) -> Bool[Array, "B V"]:
        """Tokens that must not follow; at a leaf, all but `end`."""
        is_leaf = children[:, 0] == vocab_size
        children = children.at[:, 0].set(jnp.where(is_leaf, end, children[:, 0]))
        rows = jnp.arange(len(nodes))[:, None]
        banned = jnp.ones((len(nodes), vocab_size), bool)
        return banned.at[rows, children].set(False, mode="drop")

    def next_nodes(
        self, nodes: Int[Array, " B"], children: Int[Array, "B children"], tokens: Int[Array, " B"]
    ) -> Int[Array, " B"]:
        """The nodes after these tokens; a token that is no child stays at its node."""
        is_next = children == tokens[:, None]
        edges = self.first_edge[nodes] + jnp.argmax(is_next, axis=1)
        return jnp.where(jnp.any(is_next, axis=1), edges + 1, nodes).astype(jnp.int32)

    def _edges(self, nodes: Int[Array, " B"]) -> Int[Array, "B children"]:
        return self.first_edge[nodes][:, None] + jnp.arange(self.max_children)


class Choices:
    """The texts that a thought may be, with `<emb_token>` after each.

    Attributes:
        count: number of distinct texts.
        longest: tokens of the longest text.
        fingerprint: hex SHA-256 of the texts' tokens.
    """

    def __init__(self, texts: Sequence[Sequence[int]], *, end: int) -> None:
        """Builds the trie.

        Args:
            texts: token ids of each text; empty and repeated ones count once or not at all.
            end: id of `<emb_token>`, which no text contains.

        Raises:
            ConfigError: there is no text.
        """
        texts = [text for text in texts if len(text)]
        if not texts:
            raise ConfigError("a constrained thought needs at least one text to choose from")
        self.longest = max(map(len, texts))
        table = np.full((len(texts), self.longest + 1), -1, np.int32)
        for row, text in enumerate(texts):
            table[row, : len(text)] = text
            table[row, len(text)] = end
        table = np.unique(table, axis=0)  # sorted, so that texts of one prefix are neighbors
        self.count = len(table)
        is_token = table >= 0
        differs = np.ones(table.shape, bool)
        differs[1:] = np.logical_or.accumulate(table[1:] != table[:-1], axis=1)
        begins = differs & is_token  # where the first text of a prefix has its last token
        parents, node_of, count = [], np.zeros(len(table), np.int64), 1
        for depth in range(table.shape[1]):
            first = begins[:, depth]
            parents.append(node_of[first])
            numbers = count - 1 + np.cumsum(first)
            node_of = np.where(is_token[:, depth], numbers, node_of)
            count += int(first.sum())
        parent = np.concatenate(parents)
        tokens = table.T[begins.T]
        self._first_edge = np.searchsorted(parent, np.arange(count + 1)).astype(np.int32)
        self._tokens = tokens.astype(np.int32)
        self._max_children = int(np.bincount(parent).max())
        digest = hashlib.sha256(self._first_edge.astype("<i4").tobytes())
        digest.update(self._tokens.astype("<i4").tobytes())
        self.fingerprint = digest.hexdigest()
        self._tries: dict[MeshContext, TokenTrie] = {}

    def __repr__(self) -> str:
        return f"Choices({self.count:,} texts, at most {self.longest} tokens)"

    def max_thought_tokens(self, sampling: SamplingParams) -> int:
        """The limit that cuts no text short; it replaces any other.

        Raises:
            ConfigError: `min_length`, which would forbid the ends of short texts.
        """
        if sampling.min_length:
            raise ConfigError(
                f"min_length={sampling.min_length} would forbid texts that a thought may be",
                hint="set min_length=0",
            )
        return self.longest + 1  # one more, so that no text ends by its length

    def on(self, mesh_context: MeshContext) -> TokenTrie:
        """The trie on the devices of a mesh, copied there once.

        Sizes are padded to powers of two, so that similar tries share their programs.
        """
        if mesh_context not in self._tries:
            edges, nodes = _padded(len(self._tokens)), _padded(len(self._first_edge))
            replicated = jax.NamedSharding(mesh_context.mesh, jax.P())
            tokens = np.pad(self._tokens, (0, edges - len(self._tokens)))
            first = np.pad(self._first_edge, (0, nodes - len(self._first_edge)), mode="edge")
            self._tries[mesh_context] = TokenTrie(
                first_edge=host_to_global(first, replicated),
                tokens=host_to_global(tokens, replicated),
                max_children=_padded(self._max_children),
            )
        return self._tries[mesh_context]


def _padded(size: int) -> int:
    return 1 << (size - 1).bit_length()
