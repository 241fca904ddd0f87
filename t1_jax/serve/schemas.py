"""Bodies of requests: what each route reads, and what is wrong with a body that does not fit."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar, get_args

import pydantic
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

from t1_jax.seeds import MAX_SEED
from t1_jax.serve.failures import RequestError, invalid

Think = Literal["off", "auto"] | Annotated[StrictInt, Field(ge=1)]
Texts = StrictStr | list[StrictStr]
Positive = Annotated[StrictInt, Field(ge=1)]
TruncationDirection = Literal["Right", "right"]
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
    """`POST /embed`, with the defaults of text-embeddings-inference 1.9.

    Attributes:
        inputs: one text or several.
        prompt_name: the side of the texts; without it they are documents.
        normalize: whether vectors have unit length.
        truncate: whether a long text is truncated (true) or an error (false); None is the server's
            setting, as with `--auto-truncate` there.
        truncation_direction: which end is kept; T1 keeps the beginning.
        dimensions: leading dimensions to keep.
    """

    inputs: Texts
    prompt_name: Literal["query", "document"] | None = None
    normalize: StrictBool = True
    truncate: StrictBool | None = None
    truncation_direction: TruncationDirection = "right"
    dimensions: Positive | None = None


class RerankRequest(_Request):
    """`POST /rerank`: sorts texts by their similarity to a query, after a thought about it.

    Attributes:
        query: one query.
        texts: documents.
        raw_scores: whether scores are cosines; else the sigmoid of the cosines.
        return_text: whether the texts are sent back.
        truncate: as in `EmbedRequest`, for query and texts.
        truncation_direction: as in `EmbedRequest`.
        think: as in `Thinking`.
    """

    query: StrictStr
    texts: list[StrictStr]
    raw_scores: StrictBool = False
    return_text: StrictBool = False
    truncate: StrictBool | None = None
    truncation_direction: TruncationDirection = "right"
    think: Think | None = None


class SimilarityInputs(_Request):
    """A query, and the documents it is compared with."""

    source_sentence: StrictStr
    sentences: list[StrictStr]


class SimilarityParameters(_Request):
    """Truncation, as in `EmbedRequest`; each text has its side already, so no `prompt_name`."""

    truncate: StrictBool | None = None
    truncation_direction: TruncationDirection = "right"


class SimilarityRequest(_Request):
    """`POST /similarity`: the cosine of a query, after a thought about it, with each document."""

    inputs: SimilarityInputs
    parameters: SimilarityParameters | None = None
    think: Think | None = None


class TokenizeRequest(_Request):
    """`POST /tokenize`: the tokens of texts, without the prompt around them."""

    inputs: Texts
    add_special_tokens: StrictBool = True


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
    """The first problem of a body."""
    if error["type"] == "json_invalid":
        return RequestError(
            400, "malformed", f"the body is not JSON: {error['msg']}", hint="send a JSON object"
        )
    names, inside, is_object = _place(error["loc"], schema)
    if not names:
        return invalid(error["msg"], hint="send a JSON object")
    field = ".".join(names)
    if error["type"] == "extra_forbidden":
        known = ", ".join(sorted(inside.model_fields))
        return invalid(f"unknown field {field!r}", field=field, hint=f"known are {known}")
    if error["type"] == "missing":
        return invalid(f"the field {field!r} is missing", field=field, hint=f"add {field!r}")
    if is_object:
        hint = f"send an object with {', '.join(inside.model_fields)}"
    else:
        hint = _HINTS[next(name for name in reversed(names) if not name.isdigit())]
    return invalid(f"{field}: {error['msg']}", field=field, hint=hint)


def _place(
    location: Sequence[str | int], schema: type[BaseModel]
) -> tuple[list[str], type[BaseModel], bool]:
    """Where a problem is: names and numbers on the way, the innermost schema, and if that is it.

    Locations of unions also name the alternatives, which say nothing.
    """
    names: list[str] = []
    inside, is_object = schema, True
    for part in location:
        if isinstance(part, int):
            names.append(str(part))
        elif is_object:
            names.append(part)
            nested = _schema_of(inside, part)
            inside, is_object = nested or inside, nested is not None
    return names, inside, is_object


def _schema_of(schema: type[BaseModel], name: str) -> type[BaseModel] | None:
    """The schema of a field that is an object."""
    if name not in schema.model_fields:
        return None
    annotation = schema.model_fields[name].annotation
    alternatives = get_args(annotation) or (annotation,)
    return next((kind for kind in alternatives if kind in _OBJECTS), None)


_OBJECTS = (Filter, SimilarityInputs, SimilarityParameters)

_HINTS = {
    **dict.fromkeys(("k", "n", "dimensions"), "send an integer of at least 1"),
    **dict.fromkeys(("candidates", "verify"), "send a number of documents; 0 leaves it out"),
    **dict.fromkeys(("query", "source_sentence", "user"), "send a string"),
    **dict.fromkeys(("input", "inputs"), "send a string, or a list of strings"),
    **dict.fromkeys(("texts", "sentences", "thoughts"), "send a list of strings"),
    **dict.fromkeys(("ids", "exclude"), "send a list of ids"),
    **dict.fromkeys(("input_type", "prompt_name"), "send query or document"),
    **dict.fromkeys(
        (
            "add_special_tokens", "normalize", "raw_scores", "return_text", "skip_special_tokens",
            "stream", "truncate",
        ),
        "send true or false",
    ),
    "deadline": "send a number of seconds above 0",
    "encoding_format": "send float or base64",
    "fusion": "send mean or rank",
    "model": "send one of the names of GET /v1/models",
    "path": "send a pattern of paths, such as guides/*.md",
    "ranking": "send dense, bm25 or hybrid",
    "seed": f"send an integer from 0 to {MAX_SEED}",
    "think": "send off, auto, or the most tokens of a thought",
    "thought_prefix": "send a string with which the thought begins",
    "truncation_direction": "send right: T1 keeps the beginning of a text",
}  # fmt: skip
