"""danlu STAGE [INPUTS...] [--recipe FILE.yaml] [--dotted.key VALUE ...]

A recipe and the flags fill the same tree; flags win. `-o` is `--out`; `-` and `_` in flags are the same.
"""

import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from danlu.core import process
from danlu.core.errors import BadSettings, DanluError, UnknownName
from danlu.stages import STAGES

_ORDER = ("quickstart", "prepare", "tokenizer", "pretrain", "finetune", "align", "merge", "sample", "feedback", "evaluate",
          "explain", "compress", "export", "generate", "chat", "serve")  # fmt: skip
_COMMON = (
    ("--recipe FILE", "settings from a YAML file; flags win over it"),
    ("--dry-run", "print the resolved recipe and stop"),
    ("--quiet", "say nothing but errors"),
    ("--help, -h", "this page"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0 done, 1 failed, 2 wrong usage, 130 interrupted (and resumable)."""
    process.ours |= argv is None
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(words)
    except DanluError as error:
        print(f"danlu: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("danlu: interrupted. Nothing half-written was left behind; the same command starts or goes on.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as in `danlu list | head -1`
        sys.stderr.close()
        return 0


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    name, *rest = words
    if name == "--version":
        import danlu

        print(f"danlu {danlu.__version__}")
        return 0
    if name == "--completion":
        from danlu.completion import script

        print(script(rest[0] if rest else "bash"))
        return 0
    if name == "--complete":
        from danlu.completion import candidates

        print("\n".join(candidates(rest)))
        return 0
    if name not in STAGES:
        raise UnknownName("command", name, STAGES.names())
    if "-h" in rest or "--help" in rest:
        print(stage_help(name))
        return 0
    return _run(name, rest)


def _run(name: str, rest: list[str]) -> int:
    from danlu.core import log
    from danlu.core.settings import load, override, read_recipe
    from danlu.stages import settings_of

    kind = settings_of(name)
    flags, common = parse(kind, rest)
    tree: dict[str, Any] = read_recipe(Path(common["recipe"])) if "recipe" in common else {}
    for dotted, value in flags:
        override(tree, dotted, value)
    config = load(kind, tree, f"danlu {name}")
    if "dry-run" in common:
        import yaml

        print(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True), end="")
        return 0
    with log.listening(*([] if "quiet" in common else [log.Console()])):
        result = STAGES[name](config)
        if result is not None and hasattr(result, "path"):
            log.say(f"{result.kind} {result.id} -> {result.path}")
    return 0


def parse(kind: Any, words: Sequence[str]) -> tuple[list[tuple[str, Any]], dict[str, str]]:
    """Words of the command line as (dotted key, value) pairs and the options common to all stages."""
    from danlu.core.help import rows, rows_of_chosen
    from danlu.core.settings import Flag

    known = {row.name: row for row in rows(kind)}
    for word, value in pairwise(words):
        key, given, own = word.lstrip("-").replace("-", "_").partition("=")
        known |= {row.name: row for row in rows_of_chosen(kind, key, own if given else value)} if _is_flag(word) else {}
    flags: list[tuple[str, Any]] = []
    common: dict[str, str] = {}
    bare: list[str] = []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        if word == "--":
            bare += queue
            break
        if not _is_flag(word):
            bare.append(word)
            continue
        key, given, value = word.lstrip("-").partition("=")
        key = "out" if word.split("=")[0] == "-o" else key
        if key in ("dry-run", "dry_run", "quiet"):
            common[key.replace("_", "-")] = "yes"
            continue
        if key == "recipe":
            common["recipe"] = value if given else _value(queue, word)
            continue
        key = key.replace("-", "_")
        row = known.get(key)
        if given:
            flags.append((key, [Flag(value)] if row and row.many else Flag(value)))
        elif row and row.many:
            flags.append((key, [Flag(part) for part in _values(queue)]))
        elif (row and row.flag) or not queue or _is_flag(queue[0]):
            takes = row and row.flag and queue and queue[0].lower() in ("true", "false", "yes", "no")
            flags.append((key, Flag(queue.pop(0) if takes else "true")))
        else:
            flags.append((key, Flag(queue.pop(0))))
    return [*_place(kind, bare), *flags], common


def _place(kind: Any, bare: list[str]) -> list[tuple[str, Any]]:
    """Bare words to the positional settings of a stage."""
    from danlu.core.help import rows
    from danlu.core.settings import Flag

    many = {row.name for row in rows(kind) if row.many}
    placed: list[tuple[str, Any]] = []
    rest = list(bare)
    for index, name in enumerate(kind.positional):
        if not rest:
            break
        if name in many:
            later = len(kind.positional) - index - 1
            taken = rest[: len(rest) - later] if later else rest
            placed.append((name, [Flag(word) for word in taken]))
            rest = rest[len(taken) :]
        else:
            placed.append((name, Flag(rest.pop(0))))
    if rest:
        wanted = " ".join(name.upper() for name in kind.positional) or "none"
        raise BadSettings(
            f"too many words: {' '.join(rest)!r} left over (inputs here: {wanted}). Quote text that contains spaces."
        )
    return placed


def _is_flag(word: str) -> bool:
    return word.startswith("-") and len(word) > 1 and not word[1].isdigit() and word[1] != "."


def _values(queue: list[str]) -> list[str]:
    taken = []
    while queue and not _is_flag(queue[0]):
        taken.append(queue.pop(0))
    return taken


def _value(queue: list[str], flag: str) -> str:
    if not queue:
        raise BadSettings(f"{flag} needs a value.")
    return queue.pop(0)


def overview() -> str:
    """The text of `danlu --help`, from the first docstring line of each stage file."""
    names = sorted(STAGES.names(), key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name))
    width = max(map(len, names)) + 2
    lines = [f"  {name:{width}}{STAGES.summary(name)}" for name in names]
    return "\n".join([
        "Danlu 丹炉: text you own goes in, a model you can serve, explain and trust comes out.", "",
        "usage: danlu STAGE [INPUTS...] [--recipe FILE.yaml] [--dotted.key VALUE ...]", "",
        *lines, "",
        "danlu STAGE --help      every setting of a stage with type, default and meaning",
        "danlu list [SHELF]      what can be chosen by name",
        "danlu --completion bash|zsh|fish     completion for your shell",
        "Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted (the same command goes on).",
    ])  # fmt: skip


def stage_help(name: str) -> str:
    """The text of `danlu STAGE --help`."""
    import textwrap

    from danlu.core.help import rows
    from danlu.stages import settings_of

    kind = settings_of(name)
    found = list(rows(kind))
    many = {row.name for row in found if row.many}
    words = " ".join(f"{key.upper()}{'...' if key in many else ''}" for key in kind.positional)  # type: ignore[attr-defined]
    lines = [f"danlu {name} {words} [settings]".replace("  ", " "), "", STAGES.summary(name)]
    about = "" if (kind.__doc__ or "").startswith("Usage docs") else " ".join((kind.__doc__ or "").split())
    lines += textwrap.wrap(about, 100)
    lines += ["", "settings:"]
    for row in found:
        default = "required" if row.required else f"default {row.default}" if row.default != "" else "default empty"
        lines.append(f"  --{row.name}  <{row.type}>  ({default})")
        lines += textwrap.wrap(row.help, 100, initial_indent="        ", subsequent_indent="        ")
    lines += ["", "common:"] + [f"  {flag:16}{text}" for flag, text in _COMMON]
    lines.append("\nOther things that a `.name` can be have their own settings: danlu list SHELF NAME.")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
