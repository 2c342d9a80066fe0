"""How a chat is put to a model and how its answer is read: tools, reasoning and forms together, as one Plan (deltas.py)."""

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from danlu.core.errors import BadInput
from danlu.server.conversation import AllowedTools, AssistantMessage, NamedTool, SystemMessage, Tool, ToolMessage
from danlu.server.deltas import Plan
from danlu.server.errors import invalid
from danlu.server.fields import Chat
from danlu.server.framing import framed
from danlu.server.reasoning import Marks, Thinking, marks_of, opens, switches_of
from danlu.server.splitting import Parts
from danlu.server.tools import format_of
from danlu.tokenizer.chat import Template, knows_tools, render, switches


def plan(request: Chat, template: Template | None, special_tokens: Mapping[str, int]) -> Plan:
    """See deltas.py. Without a template nothing is planned but the messages."""
    wish = Wish(request)
    messages = told(request.messages)
    if template is None:
        return Plan(messages=messages)
    marks = marks_of(template)
    variables, closes = switches_of(request.reasoning_effort, template, marks)
    variables = {**_given(request, template), **variables}
    text = template if isinstance(template, str) else json.dumps(list(template), ensure_ascii=False)
    format = format_of(text)
    knows = knows_tools(template)
    if not knows:
        messages = in_words(messages, wish.tools, format, takes_system(template))
    if wish.forced and "enable_thinking" in switches(template):
        variables["enable_thinking"] = False  # a call that must come, comes at once
    opened = marks is not None and opens(template, marks, variables)
    prefill = f"\n{marks.close}\n\n" if marks and opened and (closes or wish.forced) else ""
    thoughts = None if prefill else marks
    constraint = framed(request, wish.tools, wish.forced, wish.parallel, thoughts, opened, format, text, special_tokens)
    if wish.forced:
        prefill += format.frame(text).opening
    splitter = None
    if marks or wish.tools:

        def splitter(choice: int) -> Parts:
            thinking = Thinking(marks, opened) if marks else None
            reader = format.reader(wish.names) if wish.tools else None
            return Parts(choice, thinking, reader, format.new_id, None if wish.parallel else 1)

    return Plan(
        messages=messages,
        tools=shown(wish.tools) if knows and wish.tools else None,
        variables=variables,
        constraint=constraint,
        prefill=prefill,
        splitter=splitter,
        special=_seen(marks, format.special if wish.tools else frozenset()) & special_tokens.keys(),
    )


class Wish:
    """What a request wants of its tools. `tools`: those that may be called; `forced`: one of them must be."""

    def __init__(self, request: Chat):
        tools, choice = list(request.tools or []), request.tool_choice
        names = [tool.function.name for tool in tools]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise invalid("tools", f"Two tools are called '{twice[0]}'; names must differ.")
        for number, tool in enumerate(tools):
            kind = (tool.function.parameters or {}).get("type", "object")
            if kind != "object":
                raise invalid(f"tools[{number}].function.parameters",
                              "The parameters of a function are a JSON schema of type object.")  # fmt: skip
        if choice not in (None, "none", "auto") and not tools:
            raise invalid("tool_choice", "'tool_choice' says which tools are called, and there are no 'tools'.")
        wanted, self.forced = names, choice == "required"
        if isinstance(choice, NamedTool):
            wanted, self.forced = [choice.function.name], True
        elif isinstance(choice, AllowedTools):
            wanted = [one.function.name for one in choice.allowed_tools.tools]
            self.forced = choice.allowed_tools.mode == "required"
        elif choice == "none":
            wanted = []
        if unknown := [name for name in wanted if name not in names]:
            raise invalid("tool_choice", f"'tool_choice' names the tool '{unknown[0]}', which is not among 'tools'.")
        self.tools: list[Tool] = [tool for tool in tools if tool.function.name in wanted]
        self.names = frozenset(wanted)
        self.parallel = request.parallel_tool_calls is not False and not isinstance(choice, NamedTool)


def _given(request: Chat, template: Template) -> dict[str, Any]:
    """The template's switches that a request sets. Raises ApiError for others."""
    given = dict(request.chat_template_kwargs or {})
    known = switches(template)
    for name in given:
        if name not in known:
            raise invalid(f"chat_template_kwargs.{name}"[:200],
                          f"This model's chat template reads {', '.join(sorted(known)) or 'no such switch'}.")  # fmt: skip
    return given


def _seen(marks: Marks | None, of_format: frozenset[str]) -> frozenset[str]:
    return of_format | ({marks.open, marks.close} if marks else set())


def told(messages: Sequence[Any]) -> list[dict[str, Any]]:
    """Messages as chat templates take them: one text each, developer as system, a refusal as what was said."""
    found: list[dict[str, Any]] = []
    for message in messages:
        role = "system" if isinstance(message, SystemMessage) else message.role
        made: dict[str, Any] = {"role": role, "content": message.text or ""}
        if message.name is not None:
            made["name"] = message.name
        if isinstance(message, AssistantMessage):
            made["content"] = message.text if message.text is not None else message.refusal or ""
            if message.reasoning_content is not None:
                made["reasoning_content"] = message.reasoning_content
            if message.tool_calls:
                made["tool_calls"] = [call.model_dump(exclude={"index"}) for call in message.tool_calls]
        if isinstance(message, ToolMessage):
            made["tool_call_id"] = message.tool_call_id
            made["name"] = message.name or _called(messages, message.tool_call_id)
        found.append(made)
    return found


def _called(messages: Sequence[Any], call_id: str) -> str:
    """The function of a call."""
    calls = [call for message in messages if isinstance(message, AssistantMessage) for call in message.tool_calls or ()]
    return next((call.function.name for call in reversed(calls) if call.id == call_id), "")


def shown(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """Tools as models are told of them."""
    found = []
    for tool in tools:
        function: dict[str, Any] = {"name": tool.function.name}
        if tool.function.description is not None:
            function["description"] = tool.function.description
        function["parameters"] = tool.function.parameters or {"type": "object", "properties": {}}
        found.append({"type": "function", "function": function})
    return found


@functools.lru_cache(maxsize=64)
def _takes_system(template: str) -> bool:
    talk = [{"role": "system", "content": "alpha"}, {"role": "user", "content": "omega"}]
    try:
        return "alpha" in render(json.loads(template), talk, bos_token="", eos_token="")
    except BadInput:
        return False


def takes_system(template: Template) -> bool:
    """Whether a chat template has a place for a system message."""
    return _takes_system(json.dumps(template))


def in_words(messages: Sequence[Mapping[str, Any]], tools: Sequence[Tool], format: Any, system: bool) -> list[dict[str, Any]]:
    """The same for templates that know no tools: calls and answers in the format's own words, tools in a system message (or in
    front of the first message, where there can be none)."""
    made: list[dict[str, Any]] = []
    answers = False
    for message in messages:
        if message["role"] == "tool":
            text = format.answer(message["content"])
            if answers:  # several answers in a row are one message: turns alternate
                made[-1] = {"role": "user", "content": f"{made[-1]['content']}\n{text}"}
            else:
                made.append({"role": "user", "content": text})
        elif message.get("tool_calls"):
            calls = format.write([call["function"] for call in message["tool_calls"]])
            said = f"{message['content']}\n" if message["content"] else ""
            made.append({"role": "assistant", "content": f"{said}{calls}"})
        else:
            made.append(dict(message))
        answers = message["role"] == "tool"
    if tools:
        text = format.tell(shown(tools))
        if made[0]["role"] == "system":
            made[0] = {**made[0], "content": f"{made[0]['content']}\n\n{text}"}
        elif system:
            made.insert(0, {"role": "system", "content": text})
        else:
            made[0] = {**made[0], "content": f"{text}\n\n{made[0]['content']}"}
    return made
