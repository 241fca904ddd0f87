"""Search your own files with T1, from Python; `t1 search docs "how do I resume a run?"` does more.

t1 pull t1-smollm2-135m
python examples/search_your_files.py docs "how do I resume a run?"
"""

import sys
from pathlib import Path

from t1_jax import T1, Collection, Query, Searcher, build_index, read_folder


def main(folder: str, text: str, model_name: str = "t1-smollm2-135m") -> None:
    """Prints a thought about the query and the five nearest passages."""
    documents = {document.id: document for document in read_folder(Path(folder)).documents}
    model = T1.load(model_name)
    texts = [document.full_text for document in documents.values()]
    vectors = model.encode_document(texts, show_progress_bar=True)
    searcher = Searcher(
        documents, index=build_index("numpy", list(documents), vectors), model=model
    )

    query = Query(id="query", text=text)
    asked = Collection(name="asked", documents=(), queries=(query,), qrels={})
    results = searcher.search(asked, k=5, max_thought_tokens=48)

    print(f"thought: {results.thoughts[0][0].text.strip()}\n")
    for hit in searcher.hits(results, query.id, query.text):
        print(f"{hit.score:.3f}  {hit.id}\n       {hit.snippet.text if hit.snippet else ''}")


if __name__ == "__main__":
    main(*sys.argv[1:])
