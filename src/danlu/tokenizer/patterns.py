"""Regular expressions that cut text into pieces before merging; no token ever crosses a cut.

`danlu` is ours. It names characters by explicit code points and looks neither ahead nor behind, so every engine
(Oniguruma, Rust regex, Python re) cuts alike whatever Unicode version it knows, and a plain automaton can run it.
Every run is bounded, so encoding time is linear in the text whatever the text holds. `gpt2` and `gpt4` are the
published patterns of those models, kept for comparison and for people who need their exact cuts.
"""

from danlu.core.errors import BadSettings

HAN = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Chinese characters: the unified and compatibility blocks, both supplementary planes, and 々 〆 〇."""

_SIGNS = (
    "\u0080-\u00a9\u00ab-\u00b4\u00b6-\u00b9\u00bb-\u00bf\u00d7\u00f7"  # Latin-1 punctuation and signs
    "\u2000-\u2bff\u2e00-\u2e7f"  # punctuation, arrows, mathematics, boxes, dingbats
    "\u3000-\u3004\u3008-\u3030\u303d-\u303f\ufe10-\ufe1f\ufe30-\ufe6f"  # Chinese punctuation and its vertical forms
    "\uff00-\uff20\uff3b-\uff40\uff5b-\uff65\uffe0-\uffff"  # full-width forms that are no letters
    "\ue000-\uf8ff\U0001f000-\U0001fbff\U000e0000-\U0010ffff"  # private use, emoji, tags
)
_CHINESE_SIGNS = "\u2010-\u2027\u3000-\u3004\u3008-\u301f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff3d"
_LETTER = rf"[^\x00-@\[-`{{-\x7f{_SIGNS}{HAN}]"
_PUNCTUATION = r"!-/:-@\[-`{-~"


def danlu(han_run: int = 32, digits: int = 2) -> str:
    """Our pattern. `han_run`: most Chinese characters in a piece; `digits`: most digits in a piece (decision 0021).

    A word keeps one blank or ASCII sign before it (` the`, `.append`, `_name`), a Chinese run one blank or Chinese sign;
    combining marks stay with their letters; a line break takes the indentation after it, also behind signs (`):` and so on).
    """
    return "|".join([
        rf"[ {_CHINESE_SIGNS}]?[{HAN}]{{1,{han_run}}}",
        rf"[ {_PUNCTUATION}]?{_LETTER}{{1,64}}",
        rf"[0-9]{{1,{digits}}}",
        rf" ?[{_PUNCTUATION}\x00-\x08\x0b\x0c\x0e-\x1f\x7f{_SIGNS}]{{1,32}}(?:[\r\n]{{1,16}}[ \t]{{0,32}})?",
        r"[ \t]{0,32}[\r\n]{1,16}[ \t]{0,32}",
        r"[ \t]{1,32}",
    ])  # fmt: skip


GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
GPT4 = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"

PATTERNS = {"danlu": danlu(), "gpt2": GPT2, "gpt4": GPT4}


def resolve(pattern: str) -> str:
    """A pattern by its name, or a regular expression as it is. Raises BadSettings when it would lose text.

    >>> resolve("gpt2") == GPT2
    True
    """
    if pattern in PATTERNS:
        return PATTERNS[pattern]
    import regex  # type: ignore[import-untyped]

    try:
        compiled = regex.compile(pattern)
    except regex.error as error:
        raise BadSettings(
            f"pattern {pattern!r} is neither one of {', '.join(PATTERNS)} nor a regular expression: {error}."
        ) from None
    probe = "It's 2,048 tokens\r\n\tof  中文，text\u3000\U0001f600 \x00e\u0301\n"
    if compiled.sub("", probe):
        raise BadSettings(f"pattern {pattern!r} leaves {compiled.sub('', probe)!r} of {probe!r} out; every character must match.")
    return pattern
