"""Search your own text files with T1.

    t1 pull smollm2-135m-instruct
    python examples/search_your_files.py docs "how do I resume a run?"

Every paragraph of the .md and .txt files below the folder is a document.
"""

import sys
from pathlib import Path

from t1_jax import T1, build_index


def read_paragraphs(folder: Path) -> dict[str, str]:
    """The paragraphs of at least 40 characters, by file and number."""
    paragraphs = {}
    for file in sorted(folder.rglob("*")):
        if file.suffix in (".md", ".txt"):
            text = file.read_text(encoding="utf-8", errors="replace")
            for number, paragraph in enumerate(text.split("\n\n"), 1):
                if len(paragraph.strip()) >= 40:
                    paragraphs[f"{file.relative_to(folder)}, paragraph {number}"] = paragraph
    return paragraphs


def main(folder: str, query: str, model_name: str = "models/t1-smollm2-135m") -> None:
    """Prints a thought about the query and the five nearest paragraphs."""
    paragraphs = read_paragraphs(Path(folder))
    model = T1.load(model_name)
    names = list(paragraphs)
    vectors = model.encode_document(list(paragraphs.values()), show_progress_bar=True)
    index = build_index("numpy", names, vectors)

    query_vector, thoughts = model.encode_query(query, max_thought_tokens=48, return_thoughts=True)
    found = index.search(query_vector[None], k=min(5, len(names)))

    print(f"thought: {thoughts[0][0].text.strip()}\n")
    for row, score in zip(found.rows[0], found.scores[0], strict=True):
        print(f"{score:.3f}  {names[row]}\n       {' '.join(paragraphs[names[row]].split())[:80]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
