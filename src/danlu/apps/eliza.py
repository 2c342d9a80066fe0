"""ELIZA (Weizenbaum 1966, Communications of the ACM 9, 36-45): conversation by keywords, without any understanding.

The machine of the paper, with a script of our own words in English and in Chinese: keywords have ranks; the sentence is taken
apart by the patterns of the highest one that fits and put together again by that pattern's answers in turn; what was said
about "my ..." is kept and brought up when nothing else can be said. Chance plays no part: the same words get the same answers.
Leaves out scripts that edit themselves, and the paper's hash that picks among memories: they come back in order.
"""

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

NEXT = "next keyword"
"""As an answer: let the keyword with the next lower rank speak."""


@dataclass(frozen=True)
class Keyword:
    """A word (or several, with |) to look for, and what to say."""

    words: str
    rank: int
    patterns: tuple[tuple[str, tuple[str, ...]], ...]
    """Regular expressions over the clause, and answers in turn; \\1, \\2 are what was caught, seen from the other side."""
    memory: tuple[str, ...] = ()
    """Answers to keep for later whenever the last pattern fits."""


@dataclass(frozen=True)
class Script:
    """Everything that a language needs."""

    greeting: str
    keywords: tuple[Keyword, ...]
    none: tuple[str, ...]
    """Answers, in turn, where no keyword stands and nothing is remembered."""
    sides: dict[str, str]
    """Words that change when a speaker's words come back: I, you, my, your."""
    word: str
    """Regular expression of `{}` as a whole word."""


ENGLISH = Script(
    greeting="Hello. What brings you here today?",
    word=r"\b(?:{})\b",
    sides={"i": "you", "me": "you", "my": "your", "mine": "yours", "myself": "yourself", "am": "are", "i'm": "you are",
           "i've": "you have", "i'll": "you will", "you": "I", "your": "my", "yours": "mine", "yourself": "myself",
           "was": "were", "are": "am", "you're": "I am"},
    none=("Please say more about that.", "I see. And then?", "What does that mean to you?", "Why do you mention it just now?"),
    keywords=(
        Keyword("computers?|machines?|robots?|programs?", 50, ((
            r".*", ("Do machines make you uneasy?", "Why do you bring up machines?", "What has a machine to do with your worry?"),
        ),)),
        Keyword("dream|dreamt|dreamed", 30, (
            (r".*\bi (?:dreamt|dreamed) (?:of|about|that) (.+)", (
                "Really, \\1?", "Have you ever imagined \\1 while awake?", "What comes to mind when you think of \\1?",
            )),
            (r".*", ("What does that dream tell you?", "Do you dream often?", "Who else appears in your dreams?")),
        )),
        Keyword("my", 20, (
            (r".*?\bmy (mother|father|sister|brother|wife|husband|children|son|daughter)\b(.*)", (
                "Tell me more about your family.", "Who else in your family\\2?", "What else do you think of with your \\1?",
            )),
            (r".*?\bmy (.+)", ("Your \\1?", "Why do you say your \\1?", "Does your \\1 matter much to you?")),
        ), memory=("Earlier you spoke of your \\1.", "Let us go back to your \\1.", "Has this to do with your \\1?")),
        Keyword("everybody|everyone|nobody|no one", 10, ((
            r".*\b(everybody|everyone|nobody|no one)\b.*", ("Surely not \\1?", "Of whom are you thinking?", "Who, for example?"),
        ),)),
        Keyword("always|never", 8, ((r".*", ("Can you think of one example?", "When, most recently?", "Without exception?")),)),
        Keyword("alike|same|like", 7, ((r".*", ("In what way?", "What connects the two?", "Is there a difference, too?")),)),
        Keyword("remember", 5, (
            (r".*\bi remember (.+)", ("Do you often think of \\1?", "What else comes back with \\1?", "Why \\1 right now?")),
            (r".*\byou remember (.+)", ("Did you think I would forget \\1?", "What about \\1?")),
            (r".*", (NEXT,)),
        )),
        Keyword("because", 4, ((r".*", ("Is that the real reason?", "Are there other reasons?", "Does that explain it all?")),)),
        Keyword("if", 3, ((r".*\bif (.+)", ("Do you think it likely that \\1?", "Do you wish that \\1?", "And what if not?")),)),
        Keyword("i|i'm", 2, (
            (r".*\bi (?:want|need|would like|wish for) (.+)", (
                "What would it mean to you to have \\1?", "Why do you want \\1?", "Suppose you soon had \\1.",
            )),
            (r".*\b(?:i am|i'm) (?:very |so |rather )?(sad|unhappy|depressed|ill|tired|lonely|afraid)\b.*", (
                "I am sorry to hear you are \\1.", "Does coming here help you not to be \\1?", "What made you \\1?",
            )),
            (r".*\b(?:i am|i'm) (.+)", ("How long have you been \\1?", "Do you believe it is normal to be \\1?")),
            (r".*\bi (?:can't|cannot|can not) (.+)", ("How do you know you can not \\1?", "Have you tried?")),
            (r".*\bi (?:think|feel|believe) (.+)", ("Do you really think so?", "But are you sure \\1?")),
            (r".*\bi (.+?) you\b.*", ("Perhaps in your thoughts we \\1 each other.", "Why do you think that you \\1 me?")),
            (r".*\bi (.+)", ("You say you \\1?", "Can you tell me more of that?", NEXT)),
        )),
        Keyword("you|you're", 1, (
            (r".*\b(?:you are|you're) (.+)", ("What makes you think I am \\1?", "Does it please you to believe I am \\1?")),
            (r".*\byou (.+) me\b.*", ("Why do you think I \\1 you?", "You like to think I \\1 you, don't you?")),
            (r".*\byou (.+)", ("We were speaking of you, not of me.", "Oh, I \\1?")),
        )),
        Keyword("what|how|who|when|where|why", 0, ((r".*", (
            "Why do you ask?", "What answer would please you most?", "Have you asked anyone else?",
        )),)),
        Keyword("sorry|pardon", 0, ((r".*", ("No need to apologise.", "What do you feel when you apologise?")),)),
        Keyword("yes|certainly", 0, ((r".*", ("You seem quite sure.", "I understand. Go on.")),)),
        Keyword("no", 0, ((r".*", ("Why not?", "Are you saying no just to be negative?")),)),
        Keyword("hello|hi", 0, ((r".*", ("How do you do. Tell me what is on your mind.",)),)),
    ),
)  # fmt: skip

CHINESE = Script(
    greeting="你好。今天想说些什么？",
    word="(?:{})",
    sides={"我们": "你们", "你们": "我们", "我": "你", "你": "我", "您": "我"},
    none=("请接着说。", "嗯，后来呢？", "这对你意味着什么？", "为什么现在想起这个？"),
    keywords=(
        Keyword("电脑|计算机|机器|程序", 50, ((r".*", ("机器让你不安吗？", "为什么提到机器？", "机器和你的烦恼有什么关系？")),)),
        Keyword("梦见|梦到|做梦", 30, (
            (r".*?我(?:梦见|梦到)了?(.+)", ("真的吗，\\1？", "你醒着的时候想过\\1吗？", "想到\\1，你还会想起什么？")),
            (r".*", ("这个梦告诉了你什么？", "你常做梦吗？")),
        )),
        Keyword("我的|我(?:妈妈|爸爸|母亲|父亲|姐姐|妹妹|哥哥|弟弟|妻子|丈夫)", 20, (
            (r".*?我的?(妈妈|爸爸|母亲|父亲|姐姐|妹妹|哥哥|弟弟|妻子|丈夫|家人)(.*)", (
                "多说说你的家人吧。", "家里还有谁\\2？", "说到你\\1，你还会想起什么？",
            )),
            (r".*?我的(.+)", ("你的\\1？", "为什么说到你的\\1？", "你的\\1对你很重要吗？")),
        ), memory=("刚才你说到你的\\1。", "我们回过头来说说你的\\1吧。", "这和你的\\1有关系吗？")),
        Keyword("大家|所有人|每个人|没有人", 10, ((r".*?(大家|所有人|每个人|没有人).*", ("真的是\\1吗？", "你想到的是谁？")),)),
        Keyword("总是|从来|一直", 8, ((r".*", ("能举一个例子吗？", "最近一次是什么时候？")),)),
        Keyword("一样|好像|像", 7, ((r".*", ("在哪一点上？", "它们有什么联系？")),)),
        Keyword("记得", 5, ((r".*?我记得(.+)", ("你常想起\\1吗？", "为什么现在想起\\1？")), (r".*", (NEXT,)))),
        Keyword("因为", 4, ((r".*", ("这是真正的原因吗？", "还有别的原因吗？")),)),
        Keyword("如果|要是", 3, ((r".*?(?:如果|要是)(.+)", ("你觉得\\1的可能大吗？", "你希望\\1吗？")),)),
        Keyword("我", 2, (
            (r".*?我(?:想要|想|要|需要)(.+)", ("要是真能\\1，对你意味着什么？", "你为什么想\\1？")),
            (r".*?我(?:很|非常|好|太|有点)?(难过|伤心|累|孤单|孤独|害怕|生气|焦虑).*", (
                "听到你\\1，我很遗憾。", "是什么让你\\1？",
            )),
            (r".*?我(?:觉得|认为|相信)(.+)", ("你真的这么想吗？", "你能肯定\\1吗？")),
            (r".*?我(?:不能|不会|没法)(.+)", ("你怎么知道自己不能\\1？", "你试过吗？")),
            (r".*?我是(.+)", ("你是\\1，这对你意味着什么？", "你什么时候发现自己是\\1的？")),
            (r".*?我(.+)", ("你说你\\1？", "能再多说一点吗？", NEXT)),
        )),
        Keyword("你|您", 1, (
            (r".*?[你您]是(.+)", ("你为什么觉得我是\\1？",)),
            (r".*", ("我们在说你，不是说我。", "这是在问我吗？")),
        )),
        Keyword("什么|怎么|为什么|谁|哪|吗", 0, ((r".*", ("你为什么问这个？", "你最想听到什么回答？")),)),
        Keyword("对不起|抱歉", 0, ((r".*", ("不用道歉。",)),)),
        Keyword("是的|对", 0, ((r".*", ("你好像很肯定。", "明白了，请继续。")),)),
        Keyword("不是|没有|不", 0, ((r".*", ("为什么不呢？", "你只是想说不吗？")),)),
        Keyword("你好|您好", 3, ((r".*", ("你好。说说你在想什么吧。",)),)),
    ),
)  # fmt: skip
_CLAUSE = re.compile(r"[.,;:!?。，；：！？…\n]+|\bbut\b|但是|可是", re.IGNORECASE)
_HAN = re.compile(r"[\u3400-\u9fff]")


@dataclass
class Eliza:
    """One conversation. Each line is answered in its own language: Chinese where it has a Chinese character.

    >>> doctor = Eliza()
    >>> doctor.answer("My boss shouts at me.")
    'Your boss shouts at you?'
    >>> doctor.answer("Hm.")
    'Earlier you spoke of your boss shouts at you.'
    """

    used: dict[tuple[str, str], int] = field(default_factory=dict)
    """How often each pattern, or list of last resorts, has answered."""
    kept: dict[str, deque[str]] = field(default_factory=dict)
    """What to bring up later, by language."""

    def answer(self, line: str) -> str:
        """What the doctor says to a line."""
        script = CHINESE if _HAN.search(line) else ENGLISH
        clauses = [clause.strip() for clause in _CLAUSE.split(line) if clause and clause.strip()]
        for clause in clauses:  # the first clause with a keyword is the one that is heard
            for keyword in _found(script, clause):
                if (said := self._by_keyword(script, keyword, clause)) is not None:
                    return said
        kept = self.kept.get(script.word)
        return kept.popleft() if kept else self._in_turn((script.word, "none"), script.none)

    def _by_keyword(self, script: Script, keyword: Keyword, clause: str) -> str | None:
        """An answer by the first pattern that fits; None where it hands over to the next keyword."""
        for pattern, answers in keyword.patterns:
            match = re.fullmatch(pattern, clause, re.IGNORECASE)
            if match is None:
                continue
            if keyword.memory and pattern == keyword.patterns[-1][0]:
                later = self._in_turn((keyword.words, "memory"), keyword.memory)
                self.kept.setdefault(script.word, deque()).append(_filled(script, later, match))
            said = self._in_turn((keyword.words, pattern), answers)
            return None if said == NEXT else _filled(script, said, match)
        return None

    def _in_turn(self, place: tuple[str, str], answers: tuple[str, ...]) -> str:
        turn = self.used.get(place, 0)
        self.used[place] = turn + 1
        return answers[turn % len(answers)]


def _found(script: Script, clause: str) -> Iterator[Keyword]:
    """Keywords of a clause, the highest rank first."""
    there = [keyword for keyword in script.keywords if re.search(script.word.format(keyword.words), clause, re.IGNORECASE)]
    yield from sorted(there, key=lambda keyword: -keyword.rank)


def _filled(script: Script, answer: str, match: re.Match[str]) -> str:
    """An answer with what was caught, seen from the other side."""
    sides = re.compile("|".join(script.word.format(re.escape(word)) for word in script.sides), re.IGNORECASE)

    def caught(found: re.Match[str]) -> str:
        return sides.sub(lambda word: script.sides[word.group().lower()], match.group(int(found.group(1))).strip())

    return re.sub(r"\\(\d)", caught, answer)
