"""Write docs/*/reference.md: every stage and every shelf with its settings, from the settings themselves.

The Chinese page takes its texts from tools/zh_settings.yaml, keyed by the English text; a text without one stays English
there until `missing()` is empty, which a test demands.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from danlu.cli import _COMMON, _ORDER
from danlu.core.help import Row, rows, shelf_rows
from danlu.core.registry import Registry, shelves
from danlu.stages import STAGES, settings_of
from tools.regions import LANGUAGES, ROOT, write_or_check

CHINESE = Path(__file__).with_name("zh_settings.yaml")
_HEADS = {
    "en": {
        "title": "Settings", "setting": "setting and type", "default": "default", "meaning": "meaning",
        "required": "required", "empty": "empty", "none": "No settings of its own.", "common": "Common to all commands",
        "shelves": "Shelves", "stages": "Commands",
        "intro": "Written by `tools/reference.py` from the settings themselves, so it is what the program does. A recipe file "
        "(`--recipe FILE.yaml`) and flags (`--dotted.name VALUE`) fill the same tree; flags win. `danlu STAGE --help` prints "
        "the same for one command.",
        "choice": "A setting that ends in `.name` chooses a thing from a shelf; what the chosen thing can be told stands under "
        "its shelf below.",
    },
    "zh": {
        "title": "全部设置", "setting": "设置与类型", "default": "默认值", "meaning": "含义",
        "required": "必填", "empty": "空", "none": "没有自己的设置。", "common": "所有命令共有",
        "shelves": "架子", "stages": "命令",
        "intro": "本页由 `tools/reference.py` 从设置本身生成，因此就是程序的真实行为。配方文件（`--recipe FILE.yaml`）与命令行"
        "（`--dotted.name VALUE`）填的是同一棵树，命令行优先。`danlu STAGE --help` 会打印某个命令的同样内容。",
        "choice": "以 `.name` 结尾的设置从一个架子上挑选一件东西；被选中的东西自己的设置列在下文它的架子下面。",
    },
}  # fmt: skip
_TYPES = {"text": "文本", "path": "路径", "none": "无", "yes/no": "是/否", "number": "数", "whole number": "整数",
          "budget": "预算", "bytes": "字节数"}  # fmt: skip
_ALSO_NAMES = ("bytes", "budget")
"""Types that are also names of things: in a list of names they stay as they are typed."""


def page(language: str, chinese: dict[str, str]) -> str:
    """The whole reference page in one language."""
    words = _HEADS[language]

    def say(text: str) -> str:
        return chinese.get(text, text) if language == "zh" else text

    lines = [f"# {words['title']}", "", words["intro"], "", words["choice"], "", f"## {words['stages']} {{#commands}}", ""]
    for name in stages():
        lines += [f"### danlu {name} {{#stage-{name}}}", "", say(STAGES.summary(name)), ""]
        lines += [*table(list(rows(settings_of(name))), language, say), ""]
    lines += [f"### {words['common']} {{#common}}", ""]
    lines += [f"- `{flag}`: {say(text)}" for flag, text in _COMMON]
    lines += ["", f"## {words['shelves']} {{#shelves}}", ""]
    for shelf, registry in things():
        lines += [f"### {shelf} {{#shelf-{shelf}}}", ""]
        for name in registry.names():
            lines += [f"#### {name} {{#{shelf}-{name}}}", "", say(registry.summary(name)), ""]
            lines += [*table(list(shelf_rows(registry, name)), language, say), ""]
    return "\n".join(lines).rstrip() + "\n"


def stages() -> list[str]:
    """Stages in the order of a model's life."""
    return sorted(STAGES.names(), key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name))


def things() -> Iterator[tuple[str, Registry]]:
    """Every shelf but the stages, empty ones left out."""
    for shelf, registry in shelves().items():
        if registry is not STAGES and registry.names():
            yield shelf, registry


def table(found: list[Row], language: str, say) -> list[str]:
    """Rows of settings as a Markdown table."""
    words = _HEADS[language]
    if not found:
        return [words["none"]]
    lines = [f"| {words['setting']} | {words['default']} | {words['meaning']} |", "|---|---|---|"]
    for row in found:
        cells = (f"`{row.name}`<br>{in_words(row.type, language)}", default(row, language), say(row.help))
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return lines


def default(row: Row, language: str) -> str:
    """A default as it would be typed."""
    if row.required:
        return _HEADS[language]["required"]
    text = row.default.strip("[]").replace("'", "").replace(",", "") if row.default.startswith("[") else row.default
    return f"`{text}`" if text else _HEADS[language]["empty"]


def in_words(type_: str, language: str) -> str:
    """A type in the page's language; names that can be typed stay as they are."""
    if language == "en":
        return type_
    kind, *limits = type_.split(", ")
    if kind.startswith("list of "):
        return ", ".join(["列表：" + in_words(kind.removeprefix("list of "), language), *limits])
    parts = kind.split(" | ")
    named = [_TYPES.get(part, part) if len(parts) == 1 or part not in _ALSO_NAMES else part for part in parts]
    return ", ".join([" | ".join(named), *limits])


def texts() -> list[str]:
    """Every English text that the Chinese page must say."""
    found = [STAGES.summary(name) for name in stages()] + [text for _, text in _COMMON]
    found += [row.help for name in stages() for row in rows(settings_of(name))]
    for _, registry in things():
        for name in registry.names():
            found += [registry.summary(name), *(row.help for row in shelf_rows(registry, name))]
    return list(dict.fromkeys(text for text in found if text))


def translations() -> dict[str, str]:
    """English text -> Chinese text."""
    return (yaml.safe_load(CHINESE.read_text(encoding="utf-8")) or {}) if CHINESE.exists() else {}


def missing() -> list[str]:
    """Texts without a Chinese one."""
    known = translations()
    return [text for text in texts() if text not in known]


def pages() -> dict[Path, str]:
    """What the reference pages must hold."""
    chinese = translations()
    return {ROOT / "docs" / language / "reference.md": page(language, chinese) for language in LANGUAGES}


if __name__ == "__main__":
    sys.exit(write_or_check(pages()))
