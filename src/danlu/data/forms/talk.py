"""Conversations as samples hold them: messages checked and told in one way, as JSON, and as the text that people read.

A message is {role, content} with role system, user, assistant or tool; an assistant's may have `reasoning_content`, `tool_calls`
and `weight` (0: read, not taught). Content is text. What other programs write is told so or refused with the reason; keys that
say nothing about the conversation (ids, times) are left out. Each form of chat is a file beside this one.
"""

import json
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from danlu.data.forms.base import Form, Sample

Message = dict[str, Any]

ROLES = {
    "system": "system", "developer": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant",
    "chatgpt": "assistant", "model": "assistant", "bot": "assistant", "tool": "tool", "function": "tool", "ipython": "tool",
    "observation": "tool", "function_response": "tool", "function_call": "function_call", "tool_call": "function_call",
}  # fmt: skip
"""Names of roles in the forms that are about, lower case."""
_MEDIA = ("images", "image", "videos", "video", "audios", "audio")


class Talk(Form):
    """Base of the forms whose columns hold conversations as JSON; `lists` names those that are lists of messages.

    Editors change what is said and what was thought; calls, tools and answers to be matched stay as they are.
    """

    lists: ClassVar[tuple[str, ...]]

    def take(self, record: Mapping[str, Any]) -> tuple[str, Sample]:
        if not isinstance(record, Mapping):
            raise ValueError(f"a record must be an object with fields, not {type(record).__name__}")
        if media := next((key for key in _MEDIA if record.get(key)), None):
            raise ValueError(f"the record has {media}; only text can be learned from yet")
        sample = self.read(record)
        told = {name: compact(part) if name in self.lists else part for name, part in sample.items()}
        try:
            "".join(told.values()).encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"half a surrogate pair ({error.object[error.start]!r}), which no Unicode text holds") from None
        return self.text(sample), told

    @abstractmethod
    def read(self, record: Mapping[str, Any]) -> Sample:
        """The columns of a record, conversations as lists. Raises ValueError in words."""

    def text(self, sample: Sample) -> str:
        """What people read of a sample whose conversations are lists."""
        return "\n\n".join(part for name in self.lists for part in spoken(sample[name]))

    def edit(self, text: str, sample: Sample, editor: Callable[[str], str]) -> tuple[str, Sample]:
        lists = {name: [_edited(message, editor) for message in json.loads(sample[name])] for name in self.lists}
        for name, messages in lists.items():
            if empty := next((message for message in messages if not _says(message)), None):
                raise ValueError(f"nothing is left of a message of the {empty['role']} in {name}")
        return self.text({**sample, **lists}), {**sample, **{name: compact(part) for name, part in lists.items()}}


def compact(tree: Any) -> str:
    """JSON in one line."""
    return json.dumps(tree, ensure_ascii=False, separators=(",", ":"))


def spoken(messages: Sequence[Message]) -> list[str]:
    """What is said in messages, in order: thoughts before the answer, calls as people would write them."""
    found = []
    for message in messages:
        found += [message[key] for key in ("reasoning_content", "content") if message.get(key)]
        for call in message.get("tool_calls", ()):
            found.append(f"{call['function']['name']}({compact(call['function']['arguments'])})")
    return found


def field(record: Mapping[str, Any], key: str) -> Any:
    """A field that must hold something. Raises ValueError saying what is there instead."""
    if key not in record:
        raise ValueError(f"no field {key!r}; it has {', '.join(map(str, list(record)[:8])) or 'none'}")
    if record[key] in (None, "", []) or (isinstance(record[key], str) and not record[key].strip()):
        raise ValueError(f"field {key!r} is empty")
    return record[key]


def words(record: Mapping[str, Any], key: str) -> str:
    """A text that may be missing; empty then."""
    found = record.get(key) if key else None
    if found is None:
        return ""
    if not isinstance(found, str):
        raise ValueError(f"field {key!r} is {type(found).__name__}, not text")
    return found if found.strip() else ""


def prompt_of(record: Mapping[str, Any], keys: str) -> str:
    """The text of fields separated by commas, joined by a blank line; the first must hold something, the rest may be empty."""
    first, *more = keys.split(",")
    found = field(record, first)
    if not isinstance(found, str):
        raise ValueError(f"field {first!r} is {type(found).__name__}, not text")
    return "\n\n".join([found, *filter(None, (words(record, key) for key in more))])


def said(role: str, content: str) -> list[Message]:
    """A message, or none where nothing is said."""
    return [{"role": role, "content": content}] if content.strip() else []


def messages_of(found: Any, role: str = "role", content: str = "content") -> list[Message]:
    """Messages of a list (or its JSON) in any of the forms that are about, told in one way. Raises ValueError in words."""
    if isinstance(found, str):
        found = _json(found, "the conversation")
    if isinstance(found, Mapping):
        found = [found]
    if not isinstance(found, list | tuple) or not found:
        raise ValueError(f"a conversation is a list of messages, not {type(found).__name__ if found else 'empty'}")
    return [_message(message, number, role, content) for number, message in enumerate(found, 1)]


def turns_of(found: Any, role: str) -> list[Message]:
    """Messages: those of a list (or one), or a text as the only message of a role."""
    if isinstance(found, str):
        return [{"role": role, "content": found}]
    if isinstance(found, Mapping) and "from" in found:
        found = [found]
    sharegpt = isinstance(found, list) and found and isinstance(found[0], Mapping) and "from" in found[0]
    return messages_of(found, "from", "value") if sharegpt else messages_of(found)


def tools_of(found: Any) -> str:
    """The functions that may be called, as JSON of OpenAI's list; empty where there are none. Raises ValueError in words."""
    if found is None or (isinstance(found, str) and not found.strip()):
        return ""
    if isinstance(found, str):
        found = _json(found, "tools")
    if isinstance(found, Mapping):
        found = [found]
    if not isinstance(found, list | tuple):
        raise ValueError(f"tools are a list of functions, not {type(found).__name__}")
    tools: list[dict[str, Any]] = []
    for tool in found:
        tool = _json(tool, "a tool") if isinstance(tool, str) else tool
        function = tool.get("function", tool) if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise ValueError(f"a tool has no name: {compact(tool)[:80]}")
        tools.append({"type": "function", "function": _filled(function)})
    names = [tool["function"]["name"] for tool in tools]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"two tools are called {twice!r}")
    return compact(tools) if tools else ""


def check(messages: Sequence[Message], *, answered: bool = True) -> None:
    """Raise ValueError unless the turns make sense: a system message at most first, then users and assistants in turn, each
    call followed by its results, and at the end an answer (answered) or something to answer (not answered)."""
    before, waiting = "", list[tuple[Any, str]]()  # the last role; calls without a result
    for number, message in enumerate(messages, 1):
        role = message["role"]
        if not _says(message):
            raise ValueError(f"message {number}, the {role}'s, is empty")
        if role == "tool":
            waiting = _paired(message, number, before, waiting)
        elif waiting and (before == "assistant" or waiting[0][0] is not None):
            raise ValueError(f"message {number}, the {role}'s, stands where the result of a call ({waiting[0][1]}) should")
        elif role == "system" and number > 1:
            raise ValueError(f"message {number} is a system message; only the first may be")
        elif role == "user" and before not in ("", "system", "assistant"):
            raise ValueError(f"message {number} is the user's, right behind one of the {before}'s")
        elif role == "assistant" and before not in ("user", "tool"):
            where = f"right behind one of the {before}'s" if before == "assistant" else "before any of a user"
            raise ValueError(f"message {number} is the assistant's, {where}")
        if role == "assistant":
            waiting = [(call.get("id"), call["function"]["name"]) for call in message.get("tool_calls", ())]
        before = role
    if answered and before != "assistant":
        raise ValueError(f"the conversation ends with the {before or 'beginning'}: no answer to learn from")
    if not answered and before not in ("user", "tool"):
        raise ValueError(f"the prompt ends with the {before or 'beginning'}: there is nothing to answer")


def _paired(message: Message, number: int, before: str, waiting: list[tuple[Any, str]]) -> list[tuple[Any, str]]:
    """The calls that still wait for a result after this one; one result without an id may answer all."""
    if before not in ("assistant", "tool") or not waiting:
        raise ValueError(f"message {number} is the result of a tool, but no call waits for it")
    asked = message.get("tool_call_id")
    known = [call for call, _ in waiting if call is not None]
    if asked is None or not known:
        return waiting[1:]
    if asked not in known:
        raise ValueError(f"message {number} answers call {asked!r}; waiting: {', '.join(map(str, known))}")
    return [pair for pair in waiting if pair[0] != asked]


def _message(found: Any, number: int, role: str, content: str) -> Message:
    if not isinstance(found, Mapping):
        raise ValueError(f"message {number} is {type(found).__name__}, not an object with {role!r} and {content!r}")
    name = found.get(role)
    known = ROLES.get(str(name).strip().lower())
    if known is None:
        missing = f"has no {role!r}; it has {', '.join(map(str, list(found)[:8]))}"
        raise ValueError(f"message {number} {missing}" if name is None else f"message {number} has an unknown role {name!r}")
    if media := next((key for key in _MEDIA if found.get(key)), None):
        raise ValueError(f"message {number} has {media}; only text can be learned from yet")
    text = _content(found.get(content), number)
    if known == "function_call":
        return {"role": "assistant", "content": "", "tool_calls": _calls(_json(text, f"message {number}, a call,"), number)}
    made: Message = {"role": known, "content": text}
    if known == "assistant":
        thought = found.get("reasoning_content") or found.get("reasoning")
        if thought is not None and not isinstance(thought, str):
            raise ValueError(f"message {number}: reasoning is {type(thought).__name__}, not text")
        made |= {"reasoning_content": thought} if thought and thought.strip() else {}
        calls = found.get("tool_calls") or ([found["function_call"]] if found.get("function_call") else [])
        made |= {"tool_calls": _calls(calls, number)} if calls else {}
        made["content"] = text or _content(found.get("refusal"), number)
        made |= {"weight": 0} if found.get("weight") == 0 else {}
    for key in ("name", "tool_call_id"):
        made |= {key: found[key]} if isinstance(found.get(key), str) and known in ("tool", "user") else {}
    return made


def _content(found: Any, number: int) -> str:
    """What is said: text, or a list of parts that are text."""
    if found is None or isinstance(found, str):
        return found or ""
    if not isinstance(found, list | tuple):
        return compact(found)  # results of tools as objects
    texts = []
    for part in found:
        kind = part.get("type", "text") if isinstance(part, Mapping) else "text"
        text = part.get("text") if isinstance(part, Mapping) else part
        if kind not in ("text", "input_text", "output_text") or not isinstance(text, str):
            raise ValueError(f"message {number} has a part of type {kind!r}; only text can be learned from yet")
        texts.append(text)
    return "".join(texts)


def _calls(found: Any, number: int) -> list[dict[str, Any]]:
    """Calls as OpenAI's list, their arguments as objects."""
    calls = []
    for call in [found] if isinstance(found, Mapping) else found if isinstance(found, list | tuple) else [None]:
        function = (call.get("function") or call) if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str) or not function["name"].strip():
            raise ValueError(f"message {number} calls a function without a name: {compact(call)[:80]}")
        given = function.get("arguments", function.get("parameters"))
        given = _json(given, f"message {number}: the arguments of {function['name']}") if isinstance(given, str) else given
        if not isinstance(given, Mapping | None):
            raise ValueError(f"message {number}: the arguments of {function['name']} are {type(given).__name__}, not an object")
        named = {"id": call["id"]} if isinstance(call, Mapping) and isinstance(call.get("id"), str) else {}
        calls.append({**named, "type": "function", "function": {"name": function["name"], "arguments": _filled(given or {})}})
    return calls


def _filled(found: Mapping[str, Any]) -> dict[str, Any]:
    """Without the keys that tables add to rows that lack them."""
    return {key: value for key, value in found.items() if value is not None}


def _json(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{what} is no JSON ({error}): {text[:60]!r}") from None


def _says(message: Message) -> bool:
    return message["role"] == "tool" or bool(message["content"].strip() or message.get("tool_calls"))


def _edited(message: Message, editor: Callable[[str], str]) -> Message:
    return {key: editor(part) if key in ("content", "reasoning_content") else part for key, part in message.items()}
