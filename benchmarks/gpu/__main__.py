"""`python -m benchmarks.gpu`: the check of one GPU; launch/gpu_check.sh sets its environment."""

import argparse
import os
import sys
from pathlib import Path

from benchmarks.gpu.pieces import KEPT_BYTES, MANIFEST, join_folder, split_folder
from benchmarks.gpu.plan import TOTAL_SECONDS, chosen, plan_table
from benchmarks.gpu.runner import Folders, run_parts


def main() -> int:
    """Runs the check; the exit code is 0 if every part passed."""
    arguments = _parse()
    try:
        parts = chosen([name for name in arguments.only.split(",") if name])
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if arguments.plan:
        print(plan_table(parts))
        return 0
    if not (arguments.pack / "pack.json").exists():
        print(f"{arguments.pack} holds no pack: build one with launch/gpu_pack.sh", file=sys.stderr)
        return 2
    folders = Folders(pack=arguments.pack, work=arguments.work, output=arguments.output)
    cache = Path(os.environ.get("JAX_COMPILATION_CACHE_DIR") or arguments.work / "xla")
    if (arguments.pack / f"compiled.{MANIFEST}").exists() and not cache.exists():
        join_folder(arguments.pack, cache, name="compiled")
    results = run_parts(parts, folders, seconds=arguments.seconds, toy=arguments.toy)
    if cache.is_dir():
        split_folder(cache, arguments.work / "kept", most_bytes=KEPT_BYTES, name="compiled")
    print((arguments.output / "results.md").read_text(encoding="utf-8"))
    return 0 if all(found["status"] == "passed" for found in results.values()) else 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="launch/gpu_check.sh PIECES", description=__doc__)
    parser.add_argument("--plan", action="store_true", help="print the parts and their limits")
    parser.add_argument("--only", default="", help="parts or groups to run: a,b,c")
    parser.add_argument("--toy", action="store_true", help="sizes for a rehearsal on a CPU")
    parser.add_argument("--seconds", type=float, default=TOTAL_SECONDS, help="for all parts")
    parser.add_argument("--pack", type=Path, default=Path("build/gpu_check/pack"))
    parser.add_argument("--work", type=Path, default=Path("build/gpu_check/work"))
    parser.add_argument("--output", "-o", type=Path, default=Path("build/gpu_check/output"))
    arguments = parser.parse_args()
    for name in ("pack", "work", "output"):
        setattr(arguments, name, getattr(arguments, name).resolve())
    return arguments


if __name__ == "__main__":
    sys.exit(main())
