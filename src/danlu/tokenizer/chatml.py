"""The chat templates that Danlu gives to models it teaches to converse: turns between <|im_start|> and <|im_end|>.

They mark nothing with `{% generation %}`, which not every program that loads a model knows: what is taught is found by rendering
(turns.py).
"""

from danlu.tokenizer.definition import IM_END, IM_START

_FRAME = """\
{%- if tools %}
    {{- '@START@system\\n' }}
    {%- if messages and messages[0].role == 'system' %}
        {{- messages[0].content + '\\n\\n' }}
    {%- endif %}
    {{- 'Functions you may call, one JSON object a line:\\n<tools>' }}
    {%- for tool in tools %}
        {{- '\\n' + tool | tojson }}
    {%- endfor %}
    {{- '\\n</tools>\\nTo call one, write its name and arguments as JSON:\\n' }}
    {{- '<tool_call>\\n{"name": NAME, "arguments": {...}}\\n</tool_call>@END@\\n' }}
{%- endif %}
@LAST@{%- for message in messages %}
@THOUGHT@    {%- if message['role'] == 'tool' %}
        {%- if loop.first or loop.previtem.role != 'tool' %}
            {{- '@START@user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' + message['content'] + '\\n</tool_response>' }}
        {%- if loop.last or loop.nextitem.role != 'tool' %}
            {{- '@END@\\n' }}
        {%- endif %}
    {%- elif message.tool_calls %}
        {{- '@START@' + message['role']@BEFORE_CALLS@ }}
        {%- if message.content %}
            {{- '\\n' + message.content }}
        {%- endif %}
        {%- for call in message.tool_calls %}
            {{- '\\n<tool_call>\\n{"name": ' + call.function.name | tojson + ', "arguments": ' }}
            {{- call.function.arguments if call.function.arguments is string else call.function.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '@END@\\n' }}
    {%- elif not (tools and loop.first and message['role'] == 'system') %}
        {{- '@START@' + message['role'] + '\\n'@BEFORE@ + message['content'] + '@END@\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '@START@assistant\\n' }}
{%- endif %}
"""
_LAST = """\
{%- set last = namespace(asked=-1) %}
{%- for message in messages %}
    {%- if message['role'] == 'user' %}
        {%- set last.asked = loop.index0 %}
    {%- endif %}
{%- endfor %}
"""
_THOUGHT = """\
    {%- set thought = '' %}
    {%- if message.reasoning_content and loop.index0 > last.asked %}
        {%- set thought = '<think>\\n' + message.reasoning_content + '\\n</think>' %}
    {%- endif %}
"""


def _filled(**parts: str) -> str:
    text = _FRAME.replace("@START@", IM_START).replace("@END@", IM_END)
    for name in ("LAST", "THOUGHT", "BEFORE_CALLS", "BEFORE"):
        text = text.replace(f"@{name}@", parts.get(name, ""))
    return text


CHATML = _filled()
"""For models that answer at once; what an assistant thought is not written."""

CHATML_THINKING = _filled(LAST=_LAST, THOUGHT=_THOUGHT, BEFORE_CALLS=" + ('\\n' + thought if thought else '')",
                          BEFORE=" + (thought + '\\n\\n' if thought else '')")  # fmt: skip
"""CHATML in which an assistant's `reasoning_content` stands before its answer, between <think> and </think>. Once the user goes
on, thoughts of earlier turns are left out: clients do not send them back."""

TEMPLATES = {"chatml": CHATML, "chatml_thinking": CHATML_THINKING}
"""By the names that settings know."""
