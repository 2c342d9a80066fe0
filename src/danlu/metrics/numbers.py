r"""Numbers as people and models write them, read exactly: 1,234.5, -3, 2/3, 1 1/2, 6e-3, \frac{2}{3}, 2 \times 10^3, 三千零五.

Values are fractions, so 0.5 equals 1/2 and nothing is rounded. A per cent sign, a currency and a unit are not part of a number:
`50%` and `$50` are 50. Chinese numerals are read on demand only, because 一些 and 一样 hold numerals and mean none.
"""

import re
from fractions import Fraction

MARKS = ("####", "\\boxed{")
"""What answers are often written behind: as in GSM8K, and in LaTeX."""

_MOST_POWER = 400
"""Beyond it a power of ten is no answer, and 1e999999999 would fill the memory."""
_MOST_DIGITS = 1000

_NARROW = {ord("０") + digit: str(digit) for digit in range(10)} | dict(
    zip(map(ord, "－−﹣．／⁄％＋＄￥"), "---.//%+$¥", strict=True)
)
_HALVES = {"½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅖": "2/5", "⅗": "3/5", "⅘": "4/5", "⅙": "1/6",
           "⅚": "5/6", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8", "⅞": "7/8"}  # fmt: skip
_LATEX = (
    (re.compile(r"\{,\}|(?<=[0-9])，(?=[0-9]{3})"), ","),
    (re.compile(r"\\[,!;: ]|~|\\left|\\right"), ""),
    (re.compile(r"\\([$%])"), r"\1"),
    (re.compile(r"(?<=[0-9])\s*\\[dtc]?frac\s*\{\s*([0-9]+)\s*\}\s*\{\s*([0-9]+)\s*\}"), r" \1/\2"),
    (re.compile(r"\\[dtc]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r"\1/\2"),
    (re.compile(r"\\[dtc]?frac\s*([0-9])\s*([0-9])"), r"\1/\2"),
)

_WHOLE = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)"
_DECIMAL = rf"(?:{_WHOLE}(?:\.[0-9]+)?|\.[0-9]+)"
_PLAIN = (
    r"(?P<minus>(?<![0-9A-Za-z)\]}%])-)?[$€£¥]?"
    rf"(?:(?P<mixed>[0-9]+) (?=[0-9]+/[0-9]))?(?P<value>{_DECIMAL})"
    r"(?:[eE](?P<e>[+-]?[0-9]+)(?![0-9A-Za-z])|\s*(?:×|\\times|\\cdot|\*)\s*10\^\{?(?P<ten>[+-]?[0-9]+)\}?)?"
    rf"(?:\s*/\s*(?P<below>{_DECIMAL}))?"
)
_WORDS = ("零〇", "一壹", "二两贰兩", "三叁", "四肆", "五伍", "六陆", "七柒", "八捌", "九玖")
_DIGITS = {letter: value for value, letters in enumerate(_WORDS) for letter in letters}
_UNITS = {"十": 10, "拾": 10, "百": 100, "佰": 100, "千": 1000, "仟": 1000, "万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8}
_DIGIT = f"[{''.join(_DIGITS)}]"
_HAN = f"[{''.join(_DIGITS)}{''.join(_UNITS)}]"
_CHINESE = (
    rf"(?P<steps>(?<![0-9.])(?:{_DECIMAL}[{''.join(_UNITS)}]+)+)"
    rf"|(?P<han_minus>负)?(?:(?P<under>{_HAN}+)分之)?(?P<han>(?:{_DIGIT}|[十拾](?!分(?![之钟]))){_HAN}*)(?:点(?P<point>{_DIGIT}+))?"
)
_WESTERN, _EITHER = re.compile(_PLAIN), re.compile(f"{_CHINESE}|{_PLAIN}")
_STEP = re.compile(rf"({_DECIMAL})([{''.join(_UNITS)}]+)")


def numbers(text: str, *, chinese: bool = False) -> list[Fraction]:
    """Every number of a text in order. chinese: read Chinese numerals too.

    >>> [str(one) for one in numbers("−1,200.50 or $3, 2/3, 1½ and 6e-3; 3-5")]
    ['-2401/2', '3', '2/3', '3/2', '3/500', '3', '5']
    >>> [str(one) for one in numbers("负三千零五，百分之五十，三分之二，1.5亿，二点五", chinese=True)]
    ['-3005', '50', '2/3', '150000000', '5/2']
    """
    found = [_value(match) for match in (_EITHER if chinese else _WESTERN).finditer(_narrow(text))]
    return [one for one in found if one is not None]


def answer_number(text: str, *, mark: str = "", chinese: bool = False) -> Fraction | None:
    r"""The number that a text gives as its answer: the first behind the last `mark`, and none without it.

    Without a mark: behind the last #### or the last inside the last \boxed{...}, whichever comes later; else the last of all.

    >>> print(answer_number("2 and 3 make #### 5 of 7"), answer_number(r"\boxed{x = \frac{1}{2}}"), answer_number("1, then 4."))
    5 1/2 4
    >>> print(answer_number("答案：8，不是 9", mark="答案："), answer_number("8", mark="答案："))
    8 None
    """
    marks = (mark,) if mark else MARKS
    place, last = max((text.rfind(one), one) for one in marks)
    if place < 0:
        return None if mark else next(reversed(numbers(text, chinese=chinese)), None)
    behind = text[place + len(last) :]
    if last == MARKS[1]:
        return next(reversed(numbers(_to_brace(behind), chinese=chinese)), None)
    return next(iter(numbers(behind.lstrip().partition("\n")[0], chinese=chinese)), None)


def near(said: Fraction, true: Fraction, tolerance: float = 0.0) -> bool:
    """Whether two numbers differ by no more than `tolerance`, as a part of the true one where that is larger than 1.

    >>> near(Fraction(1, 3), Fraction("0.333"), 1e-3), near(Fraction(101), Fraction(100), 0.01), near(Fraction(2), Fraction(3))
    (True, True, False)
    """
    return abs(said - true) <= Fraction(tolerance) * max(Fraction(1), abs(true))


def chinese_number(text: str) -> int | None:
    """A whole number in Chinese numerals; None where the numerals make none.

    >>> [chinese_number(one) for one in ("十", "二〇二五", "一百零五", "三百五", "一万二", "三亿零四十万", "百", "二三十")]
    [10, 2025, 105, 350, 12000, 300400000, None, None]
    """
    if _UNITS.get(text[:1], 10) != 10 or not text:
        return None
    if all(letter in _DIGITS for letter in text):
        return int("".join(str(_DIGITS[letter]) for letter in text))
    total = section = digit = 0
    last, spoken = 1, False
    for letter in text:
        if letter in _DIGITS:
            if digit and _DIGITS[letter]:
                return None  # 二三十 means "twenty or thirty"
            digit, last = _DIGITS[letter], last if _DIGITS[letter] else 1
            spoken = True
            continue
        unit = _UNITS[letter]
        if unit < 10**4:
            section += (digit if spoken else 1) * unit
        elif total and total < unit:  # 一万亿
            total, section = (total + section + digit) * unit, 0
        else:
            total, section = total + (section + digit) * unit, 0
        digit, last, spoken = 0, unit, False
    return total + section + digit * (last // 10 if last > 10 else 1)


def _narrow(text: str) -> str:
    """One width, and LaTeX's ways of writing as plain ones."""
    for letter, pair in _HALVES.items():
        text = text.replace(letter, f" {pair}") if letter in text else text
    text = text.translate(_NARROW)
    for pattern, plain in _LATEX:
        text = pattern.sub(plain, text)
    return text


def _value(match: re.Match[str]) -> Fraction | None:
    """None for what is no number after all: a part of nothing, or one that is out of all bounds."""
    part = match.groupdict()
    if len(match.group()) > _MOST_DIGITS:
        return None
    if part.get("steps"):
        return sum((_decimal(one) * _product(units) for one, units in _STEP.findall(part["steps"])), Fraction())
    if part.get("han"):
        return _han_value(part)
    power = int(part["e"] or part["ten"] or 0)
    if abs(power) > _MOST_POWER:
        return None
    below = _decimal(part["below"]) if part["below"] else Fraction(1)
    if not below:
        return None
    value = int(part["mixed"] or 0) + _decimal(part["value"]) * Fraction(10) ** power / below
    return -value if part["minus"] else value


def _han_value(part: dict[str, str | None]) -> Fraction | None:
    whole = chinese_number(part["han"] or "")
    if whole is None:
        return None
    value = whole + Fraction(int("0" + "".join(str(_DIGITS[one]) for one in part["point"] or "")), 10 ** len(part["point"] or ""))
    if part["under"] and part["under"] != "百":
        below = chinese_number(part["under"]) or (_UNITS.get(part["under"]) if len(part["under"]) == 1 else None)
        if not below:
            return None
        value /= below
    return -value if part["han_minus"] else value


def _decimal(text: str) -> Fraction:
    return Fraction(text.replace(",", ""))


def _product(units: str) -> int:
    value = 1
    for unit in units:
        value *= _UNITS[unit]
    return value


def _to_brace(text: str) -> str:
    """What stands before the brace that closes one opened before; all of it where none does."""
    depth = 1
    for at, letter in enumerate(text):
        depth += (letter == "{") - (letter == "}")
        if not depth:
            return text[:at]
    return text
