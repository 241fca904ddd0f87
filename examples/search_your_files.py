"""Search your own files with T1, from Python; its answers are those of `t1 search`.

t1 pull t1-smollm2-135m
python examples/search_your_files.py docs "how do I resume a run?"
"""

import sys

from t1_jax import Searcher


def main(source: str, query: str, model_name: str = "t1-smollm2-135m") -> None:
    """Prints the thought, and the five best passages with file, line and best sentence."""
    searcher = Searcher.open(source, model=model_name)  # encodes what is new
    hits = searcher.search(query, k=5, max_thought_tokens=48)
    print(hits)

    print("\nwithout a thought")
    for hit in searcher.search(query, k=5, think=False):
        print(f"{hit.score:.3f}  {hit.path}:{hit.line}  {hit.title}")


if __name__ == "__main__":
    main(*sys.argv[1:])
