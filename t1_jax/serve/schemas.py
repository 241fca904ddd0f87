"""Bodies of requests: what each route reads, and what is wrong with a body that does not fit."""

from typing import Annotated, Any, Literal, TypeVar

import pydantic
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

from t1_jax.seeds import MAX_SEED
from t1_jax.serve.failures import RequestError, invalid

Think = Literal["off", "auto"] | Annotated[StrictInt, Field(ge=1)]
Texts = StrictStr | list[StrictStr]
Positive = Annotated[StrictInt, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Body = TypeVar("_Body", bound=BaseModel)


class _Request(BaseModel):
    """Unknown fields are errors: a field that did nothing would mislead."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Thinking(_Request):
    """How queries are thought about.

    Attributes:
        think: `off`, `auto` (until the embedding has settled), or the most tokens of a thought.
        n: thoughts per query.
        seed: of several thoughts.
        thoughts: user-supplied thoughts, one for each query, instead of sampled ones.
        thought_prefix: how the thought begins; the model goes on from there. One query only.
        deadline: seconds of the whole request; thoughts then end where they are.
    """

    think: Think | None = None
    n: Positive = 1
    seed: Annotated[StrictInt, Field(ge=0, le=MAX_SEED)] = 0
    thoughts: list[StrictStr] | None = None
    thought_prefix: StrictStr | None = None
    deadline: Seconds | None = None


class EmbeddingsRequest(Thinking):
    """`POST /v1/embeddings`, as OpenAI has it.

    Attributes:
        input: one text or several. Lists of token ids are rejected: they are another tokenizer's.
        model: `t1-query`, `t1-query-nothink`, `t1-doc`, or the name in `/v1/models`.
        encoding_format: `base64` is of little-endian float32.
        dimensions: leading dimensions to keep; vectors keep unit length.
        user: ignored, as nothing is kept about users.
        input_type: which side the texts are on; an alias of the model says it too.
    """

    input: StrictStr | list[StrictStr] | list[StrictInt] | list[list[StrictInt]]
    model: StrictStr
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Positive | None = None
    user: StrictStr | None = None
    input_type: Literal["query", "document"] | None = None


class Filter(_Request):
    """Which documents may be found: by id, or by a pattern of their file's path."""

    ids: list[StrictStr] = []
    exclude: list[StrictStr] = []
    path: StrictStr | None = None


class SearchRequest(Thinking):
    """`POST /v1/search`.

    Attributes:
        query: one query or several.
        k: documents per query.
        candidates: documents that the query finds without a thought, whose titles its thought sees.
        verify: documents that are reordered by how likely their titles are as thoughts.
        ranking: `dense`, `bm25`, or `hybrid`; default what suits the index.
        fusion: how several thoughts become one ranking: `mean` of the vectors, or `rank` fusion.
        filter: which documents may be found.
        stream: whether thoughts are sent as they are written; one query only.
        return_text: whether whole texts are sent, besides the sentence that matched.
    """

    query: Texts
    k: Positive = 10
    candidates: Annotated[StrictInt, Field(ge=0)] = 0
    verify: Annotated[StrictInt, Field(ge=0)] = 0
    ranking: Literal["dense", "bm25", "hybrid"] | None = None
    fusion: Literal["mean", "rank"] = "mean"
    filter: Filter = Filter()
    stream: StrictBool = False
    return_text: StrictBool = True


class ThinkRequest(Thinking):
    """`POST /v1/think`.

    Attributes:
        query: one query.
        stream: whether tokens are sent as they are chosen (SSE), else one JSON object.
    """

    query: StrictStr
    stream: StrictBool = True


class EmbedRequest(_Request):
    """`POST /embed`, as text-embeddings-inference has it; `prompt_name` is the side."""

    inputs: Texts
    prompt_name: Literal["query", "document"] | None = None
    normalize: StrictBool = True
    truncate: StrictBool = True
    truncation_direction: Literal["Right", "right"] = "Right"
    dimensions: Positive | None = None


class RerankRequest(_Request):
    """`POST /rerank`: sorts texts by their similarity to a query, after a thought about it."""

    query: StrictStr
    texts: list[StrictStr]
    raw_scores: StrictBool = True
    return_text: StrictBool = False
    truncate: StrictBool = True
    truncation_direction: Literal["Right", "right"] = "Right"
    think: Think | None = None


class SimilarityInputs(_Request):
    """A query, and the documents it is compared with."""

    source_sentence: StrictStr
    sentences: list[StrictStr]


class SimilarityRequest(_Request):
    """`POST /similarity`: the cosine of a query, after a thought about it, with each document."""

    inputs: SimilarityInputs
    parameters: dict[str, Any] | None = None
    think: Think | None = None


class TokenizeRequest(_Request):
    """`POST /tokenize`."""

    inputs: Texts
    add_special_tokens: StrictBool = True
    prompt_name: Literal["query", "document"] | None = None


class DecodeRequest(_Request):
    """`POST /decode`."""

    ids: list[StrictInt] | list[list[StrictInt]]
    skip_special_tokens: StrictBool = True


def parse_body(schema: type[_Body], body: bytes) -> _Body:
    """The body as an object of the schema.

    Raises:
        RequestError: 400 for malformed JSON, 422 for a field that is wrong; names the field.
    """
    try:
        return schema.model_validate_json(body or b"{}")
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise _failure(first, schema) from None


def _failure(error: Any, schema: type[BaseModel]) -> RequestError:
    """The first problem of a body; locations of unions name the alternatives, which say nothing."""
    fields = set(schema.model_fields)
    location = [str(part) for part in error["loc"]]
    field = (
        ".".join(location[:1] + [p for p in location[1:] if p.isdigit() or p in _NESTED]) or None
    )
    if error["type"] == "json_invalid":
        return RequestError(
            400, "malformed", f"the body is not JSON: {error['msg']}", hint="send a JSON object"
        )
    if error["type"] == "extra_forbidden":
        return invalid(
            f"unknown field {field!r}", field=field,
            hint=f"known are {', '.join(sorted(fields))}",
        )  # fmt: skip
    if error["type"] == "missing":
        return invalid(f"the field {field!r} is missing", field=field, hint=f"add {field!r}")
    if field is None:
        return invalid(error["msg"], hint="send a JSON object")
    return invalid(f"{field}: {error['msg']}", field=field, hint=_HINTS.get(location[0]))


_NESTED = {"ids", "exclude", "path", "source_sentence", "sentences"}
_HINTS = {
    "input": "send a string, or a list of strings",
    "inputs": "send a string, or a list of strings",
    "query": "send a string",
    "think": "send off, auto, or the most tokens of a thought",
    "input_type": "send query or document",
    "encoding_format": "send float or base64",
}
