"""A process that measures shards for engines/processes.py: one JSON request a line on stdin, one JSON answer a line on stdout.

The first line holds the steps. The process ends when its input does, so it never outlives the one that started it.
"""

import json
import sys
import traceback
from pathlib import Path
from typing import Any

from danlu.core.errors import DanluError
from danlu.data.lean import lean
from danlu.data.measure import Measurer
from danlu.data.plan import shard_from
from danlu.data.steps import Steps


def main() -> None:
    """Answer requests until there are no more."""
    answers, sys.stdout = sys.stdout, sys.stderr  # a library that prints must not garble the answers
    measurer = Measurer(Steps(**json.loads(sys.stdin.readline())))
    for line in sys.stdin:
        print(json.dumps(_answer(measurer, json.loads(line))), file=answers, flush=True)


def _answer(measurer: Measurer, request: dict[str, Any]) -> dict[str, Any]:
    try:
        measurer.measure(shard_from(request["shard"]), Path(request["path"]))
    except DanluError as error:
        return {"error": type(error).__name__, "message": error.args[0]}
    except Exception:
        return {"error": "", "message": traceback.format_exc()}
    return {}


if __name__ == "__main__":
    lean()
    main()
