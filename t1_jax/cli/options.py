"""Arguments and options that several commands share: `from t1_jax.cli import options`."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

DEFAULT_MODEL = "t1-smollm2-135m"  # t1_jax.retriever.DEFAULT_MODEL, without its imports


def config_argument(text: str) -> Any:
    """The arguments `[CONFIG] [KEY=VALUE]...` of a command, with `text` as their help."""
    return typer.Argument(metavar="[CONFIG] [KEY=VALUE]...", help=text)


Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="A T1 or Hugging Face folder, an adapter, a GGUF file, or a name that "
        "`t1 pull` knows.",
    ),
]
Dtype = Annotated[
    Literal["bfloat16", "float32"],
    typer.Option("--dtype", help="Compute dtype of weights and activations."),
]
Preset = Annotated[
    str | None,
    typer.Option(
        "--preset", help="Prompt preset: a name or a YAML file. Default: the model's own."
    ),
]
AsJson = Annotated[
    bool,
    typer.Option(
        "--json", help="Print one JSON object to standard output, messages to standard error."
    ),
]
CorpusName = Annotated[
    str | None,
    typer.Option(
        "--collection",
        "-c",
        help="A name that `t1 pull` knows (cwe, ruff), or the folder of a collection: BEIR, TREC, "
        "Tevatron or FlagEmbedding.",
    ),
]
InputFile = Annotated[
    Path | None,
    typer.Option(
        "--input",
        "-i",
        help="Documents: JSONL with _id, text and optional title, or .tsv with id and text, also "
        "gzipped; - reads JSONL from standard input.",
    ),
]
Lenient = Annotated[
    bool,
    typer.Option(
        "--lenient",
        help="Drop malformed records and empty texts, keep qrels of missing documents, and print "
        "how many there are.",
    ),
]
Split = Annotated[str, typer.Option("--split", help="Split of the collection.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the output if it already exists.")
]
Task = Annotated[
    str | None,
    typer.Option("--task", help="Use the preset's instruction for this task, for example `cwe`."),
]
Instruction = Annotated[
    str | None,
    typer.Option("--instruction", help="Query instruction, instead of the one of a task."),
]
NumThoughts = Annotated[
    int,
    typer.Option("--n", "-n", help="Thoughts per query; the embedding is their normalized mean."),
]
MaxThoughtTokens = Annotated[
    int | None,
    typer.Option("--max-thought-tokens", help="Maximum tokens of a thought. Default: the model's."),
]
MaxQueryTokens = Annotated[
    int | None,
    typer.Option(
        "--max-query-tokens",
        help="Longest query prompt; longer queries are truncated. Default: 1024.",
    ),
]
MaxDocumentTokens = Annotated[
    int | None,
    typer.Option(
        "--max-document-tokens",
        help="Longest document prompt; longer documents are truncated. Default: 2048, or the "
        "model's context.",
    ),
]
Temperature = Annotated[float, typer.Option("--temperature", help="0 decodes greedily.")]
TopP = Annotated[
    float, typer.Option("--top-p", help="Nucleus sampling: keep tokens up to this probability.")
]
Seed = Annotated[
    int,
    typer.Option("--seed", help="0 to 2**64 - 1. The same seed and query give the same thought."),
]
Precision = Annotated[
    Literal["float32", "float16", "bfloat16", "int8"],
    typer.Option(
        "--precision",
        help="Number format of stored document embeddings; what it loses is measured.",
    ),
]
TruncateDim = Annotated[
    int | None,
    typer.Option(
        "--truncate-dim",
        min=1,
        help="Store this many dimensions of document embeddings (Matryoshka). Default: all.",
    ),
]
OutputFolder = Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")]
UseThoughtCache = Annotated[
    bool,
    typer.Option(
        "--thought-cache/--no-thought-cache",
        help="Read thoughts from the cache of this machine, and store new ones there.",
    ),
]
