"""Chat templates in the style of published families, written for these tests, each with a small tokenizer that fits it."""

import functools
import json

from danlu.tokenizer.definition import assemble, bpe_model
from danlu.tokenizer.tokenizer import Tokenizer
from danlu.tokenizer.trainers.bytes import Bytes

LLAMA3 = """\
{{- bos_token }}
{%- set first = messages[0].content | trim if messages[0].role == 'system' else '' %}
{%- if first or tools %}
    {{- '<|start_header_id|>system<|end_header_id|>\\n\\n' + first }}
    {%- if tools %}
        {{- '\\nAnswer with {"name": name, "parameters": {}} to call one of:\\n' }}
        {%- for tool in tools %}{{- tool | tojson(indent=4) + '\\n' }}{% endfor %}
    {%- endif %}
    {{- '<|eot_id|>' }}
{%- endif %}
{%- for message in messages if message.role != 'system' %}
    {%- if message.tool_calls %}
        {%- if message.tool_calls | length > 1 %}{{ raise_exception('one call at a time') }}{% endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n{"name": "' + call.name + '", "parameters": ' }}
        {{- call.arguments | tojson + '}<|eot_id|>' }}
    {%- else %}
        {%- set role = 'ipython' if message.role == 'tool' else message.role %}
        {{- '<|start_header_id|>' + role + '<|end_header_id|>\\n\\n' + message.content | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}
"""

QWEN3 = """\
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{% endif %}
    {{- '# Tools\\n<tools>' }}
    {%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}{% endfor %}
    {{- '\\n</tools>\\nCalls go between <tool_call> and </tool_call>.<|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(last=0) %}
{%- for message in messages %}{% if message.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
    {%- elif message.role == 'assistant' %}
        {%- set thought = '' %}
        {%- if message.reasoning_content is string %}
            {%- set thought = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set thought = content.split('</think>')[0].split('<think>')[-1].strip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if loop.index0 > ns.last and thought %}{{- '<think>\\n' + thought + '\\n</think>\\n\\n' }}{% endif %}
        {{- content }}
        {%- for call in message.tool_calls or [] %}
            {%- if loop.index > 1 or content %}{{- '\\n' }}{% endif %}
            {{- '<tool_call>\\n{"name": "' }}{{- call.function.name }}{{- '", "arguments": ' }}
            {{- call.function.arguments if call.function.arguments is string else call.function.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{% endif %}
        {{- '\\n<tool_response>\\n' + content + '\\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\\n' }}{% endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{% endif %}
{%- endif %}
"""

MISTRAL = """\
{%- set start = messages[0].content + '\\n\\n' if messages[0].role == 'system' else '' %}
{{- bos_token }}
{%- for message in messages if message.role != 'system' %}
    {%- if message.role == 'user' %}
        {%- if tools and loop.index0 == 0 %}{{- '[AVAILABLE_TOOLS] ' + tools | tojson + '[/AVAILABLE_TOOLS]' }}{% endif %}
        {{- '[INST] ' + (start if loop.last else '') + message.content + '[/INST]' }}
    {%- elif message.tool_calls %}
        {{- '[TOOL_CALLS] [' }}
        {%- for call in message.tool_calls %}
            {%- if call.id | length != 9 %}{{ raise_exception('ids of calls have nine characters') }}{% endif %}
            {{- (call.function | tojson)[:-1] + ', "id": "' + call.id + '"}' }}{{- ', ' if not loop.last else ']' }}
        {%- endfor %}
        {{- eos_token }}
    {%- elif message.role == 'tool' %}
        {{- '[TOOL_RESULTS] {"content": ' + message.content | string + ', "call_id": "' + message.tool_call_id + '"}' }}
        {{- '[/TOOL_RESULTS]' }}
    {%- else %}
        {{- ' ' + message.content | trim + eos_token }}
    {%- endif %}
{%- endfor %}
"""

GEMMA = """\
{{ bos_token }}{% for message in messages %}
{% if message['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}
{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}
{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}
{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}
"""

PHI3 = """\
{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}{% endfor %}
{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}
"""

STYLES = {
    "llama3": (LLAMA3, ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|python_tag|>")),
    "qwen3": (QWEN3, ("<|endoftext|>", "<|im_start|>", "<|im_end|>")),
    "mistral": (MISTRAL, ("<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]",
                          "[TOOL_RESULTS]", "[/TOOL_RESULTS]")),
    "gemma": (GEMMA, ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>")),
    "phi3": (PHI3, ("<s>", "<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|tool|>")),
    "pieces": (MISTRAL, ("<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]",
                         "[TOOL_RESULTS]", "[/TOOL_RESULTS]")),
}  # fmt: skip
"""Template and special tokens; `pieces` has a vocabulary that writes blanks as U+2581, the others write bytes."""


@functools.cache
def tokenizer(style: str) -> Tokenizer:
    """The small tokenizer of a style."""
    template, special = STYLES[style]
    made = _pieces(special) if style == "pieces" else Bytes(Bytes.Config()).train(special_tokens=special)
    if style == "qwen3":
        made = _with_words(made, ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"))
    return Tokenizer(made.definition, {**made.config, "bos_token": special[0], "eos_token": special[1]}, template)


def _pieces(special: tuple[str, ...]) -> Tokenizer:
    """A vocabulary as SentencePiece's: characters by bytes, blanks as a letter, one before the first word."""
    names = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", *"abcdefghijklmnopqrstuvwxyz", "\u2581a", "\u2581t"]
    vocab = {name: number for number, name in enumerate(names)}
    model = bpe_model(vocab, [("\u2581", "a"), ("\u2581", "t")], byte_fallback=True, fuse_unk=True)
    space = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": False}
    steps = [{"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]
    whole = assemble(model, special, pre_tokenizer=space, decoder={"type": "Sequence", "decoders": steps})
    return Tokenizer.build(whole, special)


def _with_words(made: Tokenizer, words: tuple[str, ...]) -> Tokenizer:
    """The same with added words that are not special: they are found in ordinary text."""
    tree = json.loads(made.definition)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    tree["added_tokens"] += [{"id": made.vocab_size + at, "content": word, **flags} for at, word in enumerate(words)]
    return Tokenizer(json.dumps(tree), made.config)


def flagged() -> Tokenizer:
    """Added tokens of every kind: that swallow blanks before or after, that stand alone, that begin alike, that are words."""
    made = Bytes(Bytes.Config()).train(special_tokens=("<s>", "<s>x", "<left>", "<right>", "alone", "<both>"))
    tree = json.loads(made.definition)
    flags = {"<left>": {"lstrip": True}, "<right>": {"rstrip": True}, "alone": {"single_word": True},
             "<both>": {"lstrip": True, "rstrip": True}}  # fmt: skip
    tree["added_tokens"] = [{**token, **flags.get(token["content"], {})} for token in tree["added_tokens"]]
    return _with_words(Tokenizer(json.dumps(tree), made.config), ("<s>word", "<w>"))
