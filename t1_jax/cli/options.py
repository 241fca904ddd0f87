"""Options that several commands share, so that they read and behave alike."""

from pathlib import Path
from typing import Annotated, Literal

import typer

DEFAULT_MODEL = "smollm2-135m-instruct"

Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="A T1 or Hugging Face folder, a GGUF file, or a name that `t1 pull` knows.",
    ),
]
Dtype = Annotated[
    Literal["bfloat16", "float32"],
    typer.Option("--dtype", help="Of weights and activations while computing."),
]
Preset = Annotated[
    str | None,
    typer.Option("--preset", help="Prompts: a name, or a YAML file. Default: the model's own."),
]
AsJson = Annotated[
    bool,
    typer.Option("--json", help="One JSON object on standard output; words on standard error."),
]
CollectionName = Annotated[
    str | None,
    typer.Option(
        "--collection",
        "-c",
        help="A name that `t1 pull` knows (cwe, ruff), or a folder in the BEIR layout.",
    ),
]
CorpusName = Annotated[
    str | None,
    typer.Option(
        "--collection",
        "-c",
        help="A name that `t1 pull` knows (cwe, ruff), or a folder with corpus.jsonl.",
    ),
]
InputFile = Annotated[
    Path | None,
    typer.Option(
        "--input", "-i", help="JSONL or .jsonl.gz with _id, text, maybe title; - is standard input."
    ),
]
Lenient = Annotated[
    bool,
    typer.Option(
        "--lenient", help="Accept empty texts and qrels of absent ids; what was dropped is counted."
    ),
]
Split = Annotated[str, typer.Option("--split", help="Which split's queries and qrels.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what stands at the target.")]
Task = Annotated[
    str | None,
    typer.Option("--task", help="Instruction of this task in the preset, for example `cwe`."),
]
Instruction = Annotated[
    str | None, typer.Option("--instruction", help="The instruction itself, instead of a task's.")
]
Thoughts = Annotated[
    int, typer.Option("--n", "-n", help="Thoughts per query; its vector is their mean.")
]
Budget = Annotated[
    int | None,
    typer.Option("--max_thought_tokens", help="Most tokens of a thought. Default: the model's."),
]
Temperature = Annotated[
    float, typer.Option("--temperature", help="0 always takes the most likely token.")
]
TopP = Annotated[
    float, typer.Option("--top-p", help="Example from the likeliest tokens that sum to this.")
]
Seed = Annotated[
    int, typer.Option("--seed", help="Same seed, same query: same thought. From 0 to 2**64 - 1.")
]
OutputFolder = Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")]
