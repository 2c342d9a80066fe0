"""Seconds that `danlu --help` and `danlu pretrain --help` take above a bare interpreter.

python benchmarks/startup.py
"""

import sys
from pathlib import Path

import harness

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "danlu --help": [str(Path(sys.executable).with_name("danlu")), "--help"],
    "danlu pretrain --help": [str(Path(sys.executable).with_name("danlu")), "pretrain", "--help"],
}


def main():
    args = harness.arguments(__doc__).parse_args()
    timed = {name: (lambda words=words: harness.run(words).seconds) for name, words in COMMANDS.items()}
    seconds = harness.alternate(timed, max(args.repeats, 7))
    bare = seconds["python -c pass"]
    figures = {name: {"seconds": harness.spread(values),
                      "above_bare_s": harness.spread([mine - other for mine, other in zip(values, bare, strict=True)])}
               for name, values in seconds.items()}  # fmt: skip
    print(harness.save("startup", claim="help appears at once", target="<= 0.25 s and <= 0.6 s above `python -c pass`",
                       settings={"repeats": max(args.repeats, 7)}, figures=figures))  # fmt: skip


if __name__ == "__main__":
    main()
