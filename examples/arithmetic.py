"""Sums as prompts with an answer that can be checked, for `danlu align` with the reward `numeric`, or as conversations to learn.

python examples/arithmetic.py OUT.jsonl [--count 2000] [--digits 2] [--answers]
`--answers` writes conversations (for `danlu prepare --form chat`) in place of problems (for `--form verifiable`).
"""

import argparse
import json
import random
from pathlib import Path

from danlu.core import files


def main():
    """Write the problems, each once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--digits", type=int, default=2)
    parser.add_argument("--answers", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    chance = random.Random(asked.seed)
    lines = [json.dumps(problem(chance, asked.digits, asked.answers), ensure_ascii=False) for _ in range(asked.count)]
    files.write_text(asked.out, "".join(f"{line}\n" for line in dict.fromkeys(lines)))


def problem(chance, digits, answers):
    """A sum or a difference that is not negative."""
    first, second = sorted((chance.randrange(10**digits) for _ in range(2)), reverse=True)
    sign = chance.choice("+-")
    said = {"role": "user", "content": f"{first} {sign} {second} ="}
    answer = str(first + second if sign == "+" else first - second)
    if answers:
        return {"messages": [said, {"role": "assistant", "content": answer}]}
    return {"prompt": [said], "answer": answer}


if __name__ == "__main__":
    main()
