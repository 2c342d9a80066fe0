"""Texts that break careless code; tests of everything that measures text use them."""

import random

HOSTILE = [
    "",
    " ",
    "\n\n\n",
    "\x00",
    "a\x00b c\x00\n\x00",
    "word",
    "Don't panic: ’twas the '90s, isn't it? rock'n'roll O'Neill’s 'quoted' x'",
    "丹炉炼丹，火候为先。丹炉炼丹，火候为先。",
    "吾輩は猫である。名前はまだ無い。ｶﾅ もある。",
    "Zażółć gęślą jaźń; STRASSE straße İstanbul ǅ ﬁne e\u0301tude",
    "가나다 라마바 가나다",
    "🀄👨\u200d👩\u200d👧 emoji 🀄 and \U0002000b\U000323af\U0010ffff beyond",
    "...... ... .. . …… … #### # ##\n… \n...\n.. .\n",
    "- one\n* two\n• three\n  - four\n— five\n",
    "same line\nsame line\n SAME LINE \n\nother\n\nsame line\n\n\n other ",
    "\u3000\u3000段落一。\r\n\u3000\u3000段落二。\x85next\u2028line\u2029par",
    "a b a b a b a b a b a b a b a b a b a b a b a b",
    "one two three four five six seven eight nine ten " * 3,
    "x" * 5000,
    "的" * 700 + " 了 " * 30,
    "def f(x):\n    return {\n        'a': 1,\n    }\n\n\nclass A: pass\n" * 4,
    "\t\t\n \x0b\x0c \n\u00a0\n",
]


def noise(seed: int, count: int) -> list[str]:
    """Random texts over a small, nasty alphabet: many repeats, all kinds of character."""
    rng = random.Random(seed)
    alphabet = [
        "a",
        "b",
        "A",
        "的",
        "丹",
        " ",
        " ",
        "\n",
        "\n\n",
        ".",
        "...",
        "…",
        "#",
        "'",
        "’",
        "-",
        "\x00",
        "ー",
        "é",
        "the ",
        "of ",
    ]
    return ["".join(rng.choices(alphabet, k=rng.randrange(0, 200))) for _ in range(count)]
