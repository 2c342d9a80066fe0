"""Conversations as text: chat templates in Hugging Face's template language, rendered in jinja2's immutable sandbox.

CHATML is the template that Danlu gives to models it teaches to converse; models of others bring theirs.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from danlu.core.errors import BadInput
from danlu.tokenizer.definition import IM_END, IM_START

CHATML = (
    "{% for message in messages %}"
    f"{{{{ '{IM_START}' + message['role'] + '\\n' + message['content'] + '{IM_END}\\n' }}}}"
    "{% endfor %}"
    f"{{% if add_generation_prompt %}}{{{{ '{IM_START}assistant\\n' }}}}{{% endif %}}"
)


def render(template: str, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool = True, **variables: Any) -> str:
    """The text of a conversation; `variables` are what templates of others expect (bos_token, tools, ...).

    Raises BadInput when the template refuses the messages or cannot be rendered.

    >>> render(CHATML, [{"role": "user", "content": "Hello"}])
    '<|im_start|>user\\nHello<|im_end|>\\n<|im_start|>assistant\\n'
    """
    from jinja2 import TemplateError

    try:
        text: str = _compile(template).render(messages=messages, add_generation_prompt=add_generation_prompt, **variables)
    except (TemplateError, TypeError) as error:
        raise BadInput(
            f"the chat template cannot render these {len(messages)} message(s): {error}. Each needs a role and a content that "
            f"the template knows."
        ) from None
    return text


@functools.lru_cache(maxsize=16)
def _compile(template: str) -> Any:
    from jinja2.exceptions import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> NoReturn:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = refuse
    return environment.from_string(template)
