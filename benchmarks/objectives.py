"""Causal, masked and span pre-training of models of one size on one corpus in equal wall time, beside an LSTM and an n-gram.

One setting changes between the first three: --objective.name (the family follows from it). All share data set, tokenizer,
width, layers, rows and budget; the n-gram counts all text once, whatever the budget. Figures: bits per byte on held-out text
for those that read from left to right, pseudo bits per byte (not comparable with these) for the masked model, nats a target for
the span model. Each cell is kept as a file in --work and not run again. Usage:

    objectives.py --text en=story.txt --text zh=story-zh.txt --budget 10m --work DIR
"""

import json
import sys
from pathlib import Path
from typing import Any

from harness import arguments, run, save

SIDES: dict[str, dict[str, str]] = {
    "causal": {"objective.name": "causal"},
    "masked": {"objective.name": "masked"},
    "span": {"objective.name": "span"},
    "lstm": {"model.name": "lstm"},
    "ngram": {"model.name": "ngram"},
}
"""What each side changes about one and the same command."""
COUNTED = ("ngram",)
HELD_OUT_BYTES = 20_000
"""Most held-out text: a pseudo figure takes a pass for each token."""


def danlu(*words: str, threads: int = 1) -> Any:
    """One command of the product."""
    env = {"OMP_NUM_THREADS": str(threads)}
    return run([sys.executable, "-m", "danlu", *words, "--quiet"], env=env, timeout_s=24 * 3600)


def lacking(side: dict[str, str]) -> str:
    """Which thing of a side is not on its shelf; empty where all are."""
    from danlu.models import MODELS
    from danlu.objectives import OBJECTIVES

    shelves = {"objective.name": OBJECTIVES, "model.name": MODELS}
    return ", ".join(value for key, value in side.items() if value not in shelves[key])


def prepare(options: Any, language: str, text: Path) -> Path:
    """Data set, tokenizer with every special token that a side needs, and held-out text, made once a language."""
    from danlu.data.shards import read_texts
    from danlu.objectives import OBJECTIVES
    from danlu.tokenizer.definition import DEFAULT_SPECIAL_TOKENS

    folder = options.work / language
    if not (folder / "data").exists():
        danlu("prepare", str(text), "-o", str(folder / "data"))
    if not (folder / "tokenizer").exists():
        needed = [name for name in ("masked", "span") if name in OBJECTIVES]
        special = [*DEFAULT_SPECIAL_TOKENS, *(token for name in needed for token in OBJECTIVES[name].special_tokens)]
        danlu("tokenizer", str(folder / "data"), "-o", str(folder / "tokenizer"), "--vocab_size", str(options.vocab),
              "--special_tokens", *special)  # fmt: skip
    held_out = "\n\n".join(read_texts(folder / "data", "validation")).encode()[:HELD_OUT_BYTES]
    (folder / "held-out.txt").write_text(held_out.decode("utf-8", "ignore"), encoding="utf-8")
    return folder


def sizes(options: Any, side: dict[str, str]) -> dict[str, Any]:
    """The same sizes in the words of the side's family."""
    from danlu.models import MODELS
    from danlu.objectives import OBJECTIVES

    family = side.get("model.name") or OBJECTIVES[side["objective.name"]].family
    inner, heads = 8 * options.width // 3 // 32 * 32, max(1, options.width // 32)
    sized = MODELS[family].Config.sized(
        width=options.width, inner=inner, layers=options.layers, heads=heads, context=options.row_tokens
    )
    return {f"model.{name}": value for name, value in sized.items() if value is not None}


def cell(options: Any, language: str, name: str, seed: int, folder: Path) -> dict[str, Any]:
    """Train and measure one side."""
    side, place = SIDES[name], folder / f"{name}-{seed}"
    settings: dict[str, Any] = {"tokenizer": folder / "tokenizer", "seed": seed, **side}
    if name not in COUNTED:
        settings |= {**sizes(options, side), "budget": options.budget, "row_tokens": options.row_tokens,
                     "batch_rows": options.rows}  # fmt: skip
    flags = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    if not place.exists():
        danlu("pretrain", str(folder / "data"), "-o", str(place), *flags, threads=options.threads)
    record = json.loads((place / "lineage.json").read_text(encoding="utf-8"))
    found = {"language": language, "side": name, "seed": seed, "settings": {key: str(value) for key, value in settings.items()},
             "trained": record["metrics"]}  # fmt: skip
    if name != "span":
        report = folder / f"{name}-{seed}.report"
        danlu("evaluate", str(place), "--text", str(folder / "held-out.txt"), "-o", str(report), "--overwrite",
              threads=options.threads)  # fmt: skip
        found["held_out"] = [
            {key: value for key, value in row.items() if key != "files"}
            for row in json.loads((report / "report.json").read_text(encoding="utf-8"))["models"]
        ]
    return found


def cells(options: Any) -> list[dict[str, Any]]:
    """Every cell, from its file where it has been made."""
    found = []
    for language, text in options.text:
        folder = prepare(options, language, text)
        for name, side in SIDES.items():
            if missing := lacking(side):
                print(f"{language} {name}: skipped, {missing} is not on the shelf")
                continue
            for seed in range(options.repeats):
                path = folder / f"{name}-{seed}.json"
                if not path.exists():
                    path.write_text(json.dumps(cell(options, language, name, seed, folder), indent=1), encoding="utf-8")
                found.append(json.loads(path.read_text(encoding="utf-8")))
                print(line(found[-1]))
    return found


def line(one: dict[str, Any]) -> str:
    """A cell in words."""
    rows = {row.get("kind") or "": row for row in one.get("held_out", ())}
    figures = [
        f"{kind or 'text'} {row.get('bits_per_byte', row.get('pseudo_bits_per_byte')):.4f} bits per byte"
        for kind, row in rows.items()
    ]
    trained = one["trained"]
    loss = f"held-out loss {trained['heldout_loss']:.4f}" if "heldout_loss" in trained else ""
    size = f"{trained.get('parameters', 0):,} parameters, {trained.get('seconds', 0):.0f} s"
    return f"{one['language']} {one['side']} {one['seed']}: {'; '.join(filter(None, [*figures, loss, size]))}"


def pair(word: str) -> tuple[str, Path]:
    """`en=file` as a language and a path."""
    language, _, path = word.partition("=")
    return language, Path(path).resolve()


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--text", type=pair, action="append", required=True, help="LANGUAGE=FILE; may be given several times")
    parser.add_argument("--budget", default="10m", help="wall time of each training")
    parser.add_argument("--work", type=Path, required=True, help="folder that keeps what was made")
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--vocab", type=int, default=4096)
    parser.add_argument("--row_tokens", type=int, default=128)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.set_defaults(repeats=1)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    settings = {**vars(options), "text": [f"{language}={path.name}" for language, path in options.text]}
    save("objectives", claim="masked, span and causal pre-training by one setting, beside an LSTM and an n-gram",
         target="reported; pseudo figures do not compare with the others", settings=settings, figures=cells(options))  # fmt: skip


if __name__ == "__main__":
    main()
