"""Conversations as text and as ids: chat templates in Hugging Face's template language, where what people say stays text.

Danlu's own templates stand in chatml.py; models of others bring theirs. Templates run in a process of their own (sandbox.py).
`encode_chat` is for text from outside: names of special tokens in it stay text.
"""

import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

from danlu.core.errors import BadInput, nearest
from danlu.tokenizer import sandbox
from danlu.tokenizer.chatml import CHATML as CHATML
from danlu.tokenizer.engines import Reference
from danlu.tokenizer.template import MARKS
from danlu.tokenizer.tokenizer import Tokenizer

Template = str | Sequence[Mapping[str, str]]
"""A template, or several with names, of which `tool_use` is for conversations with tools and `default` for others."""

_OWN = frozenset({"messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token", "pad_token", "unk_token",
                  "mask_token"})  # fmt: skip
"""Variables that are not for a sender to set."""
_WORDS = {
    "role": frozenset({"system", "developer", "user", "assistant", "tool", "function", "ipython"}),
    "reasoning_effort": frozenset({"none", "minimal", "low", "medium", "high", "xhigh", "max"}),
    "type": frozenset({"text", "function", "object", "array", "string", "number", "integer", "boolean", "null"}),
}
"""Values that templates compare and put into frames of their own; they cannot carry anything else."""
_KEYS = """role content name tool_calls tool_call_id tool_name id type function arguments description parameters return text
thinking reasoning reasoning_content title strict properties required items enum anyOf oneOf allOf default format nullable
additionalProperties minimum maximum"""
"""Keys that templates ask for; others (names of parameters) come from outside like every text."""
_FRAME = frozenset(_KEYS.split())
_FRAMING = re.compile(r"<[^\s<>]+>|\[[A-Z_/]+\]")
_PRIVATE = re.compile("[\ue000-\uf8ff]")
"""Characters that Unicode gives no meaning."""
_UNUSED = [chr(code) for code in range(0xE000, 0xF900)]


def render(template: Template, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool = True,
           tools: Sequence[Mapping[str, Any]] | None = None, documents: Sequence[Mapping[str, Any]] | None = None,
           **variables: Any) -> str:  # fmt: skip
    """The text of a conversation; `variables` are what templates of others expect (bos_token, enable_thinking, ...).

    Raises BadInput when the template refuses the messages, cannot be rendered, or does not come to an end.

    >>> render(CHATML, [{"role": "user", "content": "Hello"}])
    '<|im_start|>user\\nHello<|im_end|>\\n<|im_start|>assistant\\n'
    """
    given = {**variables, "messages": list(messages), "tools": tools or None, "documents": documents or None,
             "add_generation_prompt": add_generation_prompt}  # fmt: skip
    one = chosen(template, bool(tools))
    return _draw(lambda: sandbox.SHARED.draw(one, [given]), len(messages))[0]


def encode_chat(tokenizer: Tokenizer, template: Template, messages: Sequence[Mapping[str, Any]],
                tools: Sequence[Mapping[str, Any]] | None = None, add_generation_prompt: bool = True, *,
                documents: Sequence[Mapping[str, Any]] | None = None, variables: Mapping[str, Any] | None = None,
                continue_final: bool = False) -> list[int]:  # fmt: skip
    """Ids of a conversation from outside: only the template's own control tokens become ids of such.

    variables: what the sender may set besides; only those that the template reads (`switches`).
    continue_final: the last message is the beginning of the answer, and nothing follows its content.
    Ids are those of transformers' apply_chat_template wherever contents do not try to form special tokens.
    Raises BadInput.
    """
    one = chosen(template, bool(tools))
    _check_variables(one, variables)
    said = {**(variables or {}), "messages": [_spoken(message) for message in messages],
            "tools": list(tools) if tools else None, "documents": list(documents) if documents else None}  # fmt: skip
    private = _Private(tokenizer, one, said)
    if continue_final:
        if not messages or not isinstance(messages[-1].get("content"), str):
            raise BadInput("there is no last message with a text to go on from.")
        said["messages"][-1] = {**said["messages"][-1], "content": messages[-1]["content"] + private.cut}
    own = {**roles(tokenizer), "add_generation_prompt": add_generation_prompt and not continue_final}
    hidden = [{**hide(said), **own} for hide in (private.hide_names, private.hide_all)]
    near, safe = _draw(lambda: sandbox.SHARED.draw(one, hidden), len(messages), private.show)
    if continue_final:
        near, safe = (_until(text, private.cut) for text in (near, safe))
    same = private.specials(near) == private.specials(safe)
    return private.encode(near if same else safe)


@dataclass(frozen=True)
class Drawn:
    """Several renderings of parts of one conversation under one disguise, so that they can be compared letter by letter."""

    texts: list[str]
    marks: list[list[tuple[int, int]] | None]
    """Of each text the stretches that the template marks as the model's; None where it was not asked."""
    shown: Callable[[str], str]
    """A text as it was said."""
    specials: Callable[[str], list[tuple[str, int, int]]]
    """Special tokens of a text with their places."""
    encode: Callable[[str], list[int]]
    """The ids of a text."""


def draw_together(tokenizer: Tokenizer, template: str, conversations: Sequence[tuple[Sequence[Mapping[str, Any]], bool]],
                  tools: Sequence[Mapping[str, Any]] | None = None, variables: Mapping[str, Any] | None = None,
                  marked: bool = False) -> Drawn:  # fmt: skip
    """Render beginnings of one conversation, each with whether a generation prompt follows; ids are those of `encode_chat`.

    marked: report the stretches between `{% generation %}` and `{% endgeneration %}`. Raises BadInput.
    """
    longest = max((messages for messages, _ in conversations), key=len)
    spoken = [_spoken(message) for message in longest]
    _check_variables(template, variables)
    said = {**(variables or {}), "messages": spoken, "tools": list(tools) if tools else None, "documents": None}
    private = _Private(tokenizer, template, said)
    count, (begin, end) = len(conversations), private.marks
    marks: list[dict[str, str]] = [{}, {MARKS[0]: begin, MARKS[1]: end}] if marked else [{}]
    beginnings = [
        (which, len(messages), {"add_generation_prompt": prompt, **mark})
        for mark in marks for which in (0, 1) for messages, prompt in conversations
    ]  # fmt: skip
    shown = [{**hide(said), **roles(tokenizer)} for hide in (private.hide_names, private.hide_all)]
    drawn = _draw(lambda: sandbox.SHARED.draw_beginnings(template, shown, beginnings), len(longest), private.show)
    hidden = [private.specials(near) != private.specials(far) for near, far in zip(drawn, drawn[count:], strict=False)][:count]
    texts = [drawn[at + count * far] for at, far in enumerate(hidden)]
    found: list[list[tuple[int, int]] | None] = [
        _stretches(drawn[at + count * (2 + far)], texts[at], begin, end) if marked else None for at, far in enumerate(hidden)
    ]
    return Drawn(texts, found, private.show, _added(tokenizer).special, private.encode)


def _stretches(marked: str, text: str, begin: str, end: str) -> list[tuple[int, int]]:
    """Where the marked stretches of a text stand once the marks are taken out."""
    found: list[tuple[int, int]] = []
    starts: list[int] = []
    at = 0
    for part in re.split(f"([{begin}{end}])", marked):
        if part == begin:
            starts.append(at)
        elif part == end and starts:
            found.append((starts.pop(), at))
        else:
            at += len(part)
    if marked.replace(begin, "").replace(end, "") != text:
        raise BadInput("the chat template works on what it marks with {% generation %}, so that its place cannot be told.")
    return [(start, stop) for start, stop in sorted(found) if stop > start]


def switches(template: Template) -> frozenset[str]:
    """Variables of a template that a sender may set: enable_thinking and its like."""
    return frozenset(variables_read(template)) - _OWN


def knows_tools(template: Template) -> bool:
    """Whether a template writes the tools into the prompt itself."""
    return "tools" in variables_read(template)


def _check_variables(template: str, variables: Mapping[str, Any] | None) -> None:
    for name in variables or {}:
        if name not in (known := switches(template)):
            raise BadInput(f"the chat template of this model reads no variable {name!r}. {nearest(name, known)}")


@functools.lru_cache(maxsize=64)
def _names(template: str) -> frozenset[str]:
    return frozenset(sandbox.SHARED.names(template))


def variables_read(template: Template) -> frozenset[str]:
    """All variables that a template reads. Raises BadInput for a template that is none."""
    texts = [template] if isinstance(template, str) else [part["template"] for part in template]
    return frozenset().union(*(_names(text) for text in texts))


def chosen(template: Template, tools: bool) -> str:
    """The one template for this conversation among those that a model brings."""
    if isinstance(template, str):
        return template
    named = {part["name"]: part["template"] for part in template}
    found = named.get("tool_use") if tools else None
    if found is None and "default" not in named:
        raise BadInput(f"the model has chat templates named {', '.join(named) or 'nothing'}, and none is called default.")
    return found or named["default"]


def _draw(draw: Callable[[], list[str]], count: int, show: Callable[[str], str] = str) -> list[str]:
    try:
        return draw()
    except BadInput as error:
        raise BadInput(
            f"{show(error.args[0])} It was given {count} message(s); each needs a role and a content that it knows."
        ) from None


def _spoken(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as templates expect it: the arguments of calls are objects, not JSON text of them."""
    found = dict(message)
    if found.get("tool_calls"):
        found["tool_calls"] = [
            {**call, "function": {**call["function"], "arguments": _object(call["function"].get("arguments"))}}
            if "function" in call
            else call
            for call in found["tool_calls"]
        ]
    return found


def _object(arguments: Any) -> Any:
    """Arguments as an object where they are JSON of one; otherwise as they came."""
    if not isinstance(arguments, str):
        return arguments
    try:
        found = json.loads(arguments, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return arguments
    return found if isinstance(found, dict) else arguments


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


def roles(tokenizer: Tokenizer) -> dict[str, Any]:
    """The names of special tokens under which templates ask for them."""
    found = {}
    for role in ("bos_token", "eos_token", "pad_token", "unk_token", "mask_token"):
        value = tokenizer.config.get(role)
        name = value.get("content") if isinstance(value, Mapping) else value
        if isinstance(name, str):
            found[role] = name
    return found


def turn_ends(tokenizer: Tokenizer, template: Template) -> frozenset[int]:
    """The special token that a template writes right after what an assistant said. Raises BadInput."""
    said = "answer"
    messages = [{"role": "user", "content": "question"}, {"role": "assistant", "content": said}]
    after = render(template, messages, add_generation_prompt=False, **roles(tokenizer)).rpartition(said)[2]
    names = sorted(tokenizer.special_tokens, key=len, reverse=True)
    return frozenset([tokenizer.special_tokens[name] for name in names if after.startswith(name)][:1])


def _mapped(value: Any, change: Callable[[str], str], key: str = "") -> Any:
    """A tree with every text changed that came from outside; words of the frame stay."""
    if isinstance(value, str):
        return value if value in _WORDS.get(key, ()) else change(value)
    if isinstance(value, Mapping):
        return {name if name in _FRAME else change(name): _mapped(part, change, name) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_mapped(part, change, key) for part in value]
    return value


def _texts(value: Any) -> list[str]:
    """Every text in a tree, keys too."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for name, part in value.items() for text in (name, *_texts(part))]
    return [text for part in value for text in _texts(part)] if isinstance(value, list | tuple) else []


def _until(text: str, mark: str) -> str:
    """The text before a mark that must stand in it once."""
    if text.count(mark) != 1:
        raise BadInput("the chat template changes the last message, so that an answer cannot go on from it.")
    return text[: text.index(mark)]


class _Private:
    """Stand-ins for the characters that control tokens are written with: private characters that occur nowhere else.

    Every stand-in is one character, so no template can cut one in two, and lengths, blanks and line ends stay as they are.
    Two disguises are rendered. `hide_names` hides the names of control tokens within contents and nothing else: contents
    without them are rendered as ever. `hide_all` hides every character that such a name could be made of, so that a special
    token in its text is certainly the template's own, whatever the template cuts, joins or frames. Where both texts hold the
    same special tokens in the same order the first is as safe as the second, and it is what the template's author meant.
    """

    def __init__(self, tokenizer: Tokenizer, template: str, said: Any):
        self._tokenizer = tokenizer
        self._special, self._words = _control(tokenizer)
        used = {character for text in (template, *_texts(said)) for character in _PRIVATE.findall(text)}
        letters = sorted({letter for name in self._special + self._words for letter in name if not letter.isspace()})
        free = list(islice((one for one in _UNUSED if one not in used), len(letters) + 3))
        if len(free) < len(letters) + 3:
            raise BadInput("the conversation uses nearly all of Unicode's private characters; leave some out.")
        self.cut, begin, end, *free = free
        self.marks = begin, end
        self._there = {ord(letter): stand_in for letter, stand_in in zip(letters, free, strict=False)}
        self._back = {ord(stand_in): chr(code) for code, stand_in in self._there.items()}
        self._stand_ins = re.compile(f"[{''.join(map(chr, self._back))}]") if self._back else None
        self._known: dict[str, list[int]] = {}

    def hide_all(self, said: Mapping[str, Any]) -> dict[str, Any]:
        """All characters of control tokens replaced."""
        return {name: _mapped(part, lambda text: text.translate(self._there), name) for name, part in said.items()}

    def hide_names(self, said: Mapping[str, Any]) -> dict[str, Any]:
        """The names of control tokens replaced. What an assistant said may hold the words of its format, such as <think>."""
        found = {name: _mapped(part, self._without(self._special + self._words), name) for name, part in said.items()}
        own = self._without(self._special)
        found["messages"] = [
            _mapped(message, own) if message.get("role") == "assistant" else hidden
            for message, hidden in zip(said["messages"], found["messages"], strict=True)
        ]
        return found

    def _without(self, names: Sequence[str]) -> Callable[[str], str]:
        first = {name[0] for name in names}

        def hide(text: str) -> str:
            for name in () if first.isdisjoint(text) else names:
                if name in text:
                    text = text.replace(name, name.translate(self._there))
            return text

        return hide

    def show(self, text: str) -> str:
        """The text as it was said; the very same object where nothing is hidden in it."""
        return text.translate(self._back) if self._stand_ins and self._stand_ins.search(text) else text

    def specials(self, text: str) -> list[str]:
        """Special tokens of a rendered text, in order."""
        return [name for name, _, _ in _added(self._tokenizer).special(text)]

    def encode(self, text: str) -> list[int]:
        """Ids of a rendered text."""
        if _is_whole(self._tokenizer) and self.show(text) == text:  # nothing is hidden in it
            found: list[int] = _reference(self._tokenizer.definition).encode(text, add_special_tokens=False).ids
            return found
        ids: list[int] = []
        done = 0
        for name, start, end in [*_added(self._tokenizer).special(text), ("", len(text), len(text))]:
            for part in self._apart(text[done:start]):
                if part not in self._known:  # beginnings of one conversation have most of their parts in common
                    self._known[part] = self._tokenizer.encode(part)
                ids += self._known[part]
            ids += [self._tokenizer.special_tokens[name]] if name else []
            done = end
        return ids

    def _apart(self, text: str) -> list[str]:
        """Text between special tokens, shown, cut within words of the format that somebody said, so that they stay letters."""
        shown = self.show(text)
        if shown is text:
            return [text] if text else []
        cuts = {0, len(text)}
        for word in self._words:
            at = shown.find(word)
            while at >= 0:
                cuts |= {at + 1} if text[at] != shown[at] else set()
                at = shown.find(word, at + 1)
        places = sorted(cuts)
        return [shown[start:end] for start, end in pairwise(places)]


@functools.lru_cache(maxsize=16)
def _control(tokenizer: Tokenizer) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of special tokens, and of added words that look like the frame of a format (<tool_call>); the longest first."""
    words = [token["content"] for token in tokenizer.parts["added_tokens"] if not token["special"]]
    framing = [word for word in words if _FRAMING.fullmatch(word)]
    special, framing = (sorted(names, key=lambda name: (-len(name), name)) for names in (tokenizer.special_tokens, framing))
    return tuple(special), tuple(framing)


class _Added:
    """Finds a tokenizer's added tokens in a text, the longest at each place. There may be thousands; most begin alike."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokens = {token["content"]: token for token in tokenizer.parts["added_tokens"] if token["content"]}
        self._sizes = sorted({len(name) for name in self._tokens}, reverse=True)
        first = "".join(sorted({name[0] for name in self._tokens}))
        self._first = re.compile(f"[{re.escape(first)}]") if first else None

    def special(self, text: str) -> list[tuple[str, int, int]]:
        """Special tokens with their places, the blanks that they swallow included."""
        found: list[tuple[str, int, int]] = []
        done = 0
        while self._first and (match := self._first.search(text, done)):
            at = match.start()
            name = next((text[at : at + size] for size in self._sizes if self._stands(text, at, size)), "")
            if not name:
                done = at + 1
                continue
            token, end = self._tokens[name], at + len(name)
            if token["special"]:
                before = found[-1][2] if found else 0
                start = before + len(text[before:at].rstrip()) if token["lstrip"] else at
                end = len(text) - len(text[end:].lstrip()) if token["rstrip"] else end
                found.append((name, start, end))
            done = end
        return found

    def _stands(self, text: str, at: int, size: int) -> bool:
        """Whether an added token of this size stands here."""
        token = self._tokens.get(text[at : at + size])
        if token is None or not token["single_word"]:
            return token is not None
        around = (text[at - 1 : at] if at else "") + text[at + size : at + size + 1]
        return not any(re.match(r"\w", letter) for letter in around)


_added = functools.lru_cache(maxsize=16)(_Added)


def _is_whole(tokenizer: Tokenizer) -> bool:
    """Whether `tokenizers` must see a text as a whole, and may: it finds special tokens by their names alone."""
    special = [token for token in tokenizer.parts["added_tokens"] if token["special"]]
    normalised = any(token.get("normalized") for token in special)  # other spellings of their names would be found
    return tokenizer.engine.name == Reference.name and not (tokenizer.parts.get("normalizer") and normalised)


@functools.lru_cache(maxsize=4)
def _reference(definition: str) -> Any:
    """A tokenizer of the `tokenizers` library for whole texts: it looks at blanks across special tokens, which pieces cannot."""
    import tokenizers

    made = tokenizers.Tokenizer.from_str(definition)
    made.no_truncation()
    made.no_padding()
    return made
