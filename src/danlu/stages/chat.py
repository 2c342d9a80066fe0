"""Talk with a model in the terminal; a base model goes on with what you write."""

import sys
from pathlib import Path
from typing import Any

from danlu.apps.eliza import CHINESE, ENGLISH, Eliza
from danlu.core import log
from danlu.core.errors import BadSettings, DanluError
from danlu.engine.request import Sampling
from danlu.stages import STAGES

_HELP = """/reset    forget everything said so far
/seed N   write the next answers with this seed
/help     these lines
/quit     leave (so does the end of input)
Ctrl-C stops an answer; at the prompt it leaves."""

_DOCTORS_HELP = """/reset    forget everything said so far
/quit     leave (so does the end of input)"""
_ELIZA = Path("eliza")


class Chat(Sampling):
    """A base model (one without a chat template) is no partner in conversation: your text and its own form one document, which
    it continues. When the document fills the model's context, it is said and the document begins anew."""

    positional = ("model",)

    model: Path
    """Folder of the model; or eliza, the program of 1966 that needs none."""


@STAGES.register
def chat(config: Chat) -> None:
    """Read lines, answer each on stdout; notices go to stderr."""
    session: Session | Doctor = doctor(config) if config.model == _ELIZA and not config.model.exists() else partner(config)
    while (line := ask()) is not None:
        if line.startswith("/"):
            if not session.command(line):
                return
        elif line:
            session.answer(line)


def partner(config: Chat) -> "Session":
    """A conversation with a model."""
    from danlu.engine.model import load

    model = load(config.model)
    model.check_goes_on()
    session = Session(model, config)
    print(notice(config.model, session.model), file=sys.stderr)
    return session


def doctor(config: Chat) -> "Doctor":
    """A conversation with ELIZA. Raises BadSettings for settings of sampling: nothing is sampled."""
    if given := sorted(config.model_fields_set - {"model"}):
        raise BadSettings(f"eliza takes no settings: its answers involve no chance. Leave out --{', --'.join(given)}.")
    print(f"{ENGLISH.greeting} {CHINESE.greeting} /help shows the commands.", file=sys.stderr)
    return Doctor()


def notice(path: Path, model: Any) -> str:
    """What to expect from this model, said once."""
    if model.tokenizer.chat_template:
        kind = "It has a chat template, which this version does not apply: text is continued as it stands."
    else:
        kind = "It is a base model: it continues your text rather than answering it."
    return f"{path}, context {model.context} tokens. {kind} /help shows the commands."


def ask() -> str | None:
    """The next line, or None at the end of input or on Ctrl-C. The sign before it is for terminals only."""
    try:
        if sys.stdin.isatty():
            print("> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return None
    return line.rstrip("\r\n") if line else None


class Doctor:
    """A conversation with ELIZA under the commands of a model's."""

    def __init__(self) -> None:
        self.eliza = Eliza()

    def command(self, line: str) -> bool:
        """Obey a line that begins with a slash; False when it says to leave."""
        word = line.partition(" ")[0]
        if word == "/quit":
            return False
        if word == "/reset":
            self.eliza = Eliza()
        print("Forgotten." if word == "/reset" else _DOCTORS_HELP, file=sys.stderr)
        return True

    def answer(self, line: str) -> None:
        """Print what ELIZA says to a line."""
        print(self.eliza.answer(line), flush=True)


class Session:
    """One conversation: the document so far, and how the next answer is drawn."""

    def __init__(self, model: Any, sampling: Sampling):
        self.model, self.sampling, self.document = model, sampling, ""

    def command(self, line: str) -> bool:
        """Obey a line that begins with a slash; False when it says to leave."""
        word, _, rest = line.partition(" ")
        if word == "/quit":
            return False
        if word == "/reset":
            self.document = ""
            print("Forgotten.", file=sys.stderr)
        elif word == "/seed" and rest.strip().lstrip("-").isdigit():
            self.sampling = self.sampling.model_copy(update={"seed": int(rest)})
            print(f"Seed {int(rest)}.", file=sys.stderr)
        else:
            print(_HELP if word == "/help" else f"No such command: {line}\n{_HELP}", file=sys.stderr)
        return True

    def answer(self, line: str) -> None:
        """Print what the model says after the document and this line; Ctrl-C keeps what was said until then."""
        prompt = self._fitting(f"{self.document}{line}")
        said: list[str] = []
        try:
            for piece in self.model.write(prompt, self.sampling):
                said.append(piece)
                print(piece, end="", flush=True)
        except KeyboardInterrupt:
            print(" [stopped]", end="", file=sys.stderr)
        except DanluError as error:  # this line cannot be answered, the next one may
            print(f"danlu: {error}", file=sys.stderr)
            return
        print(flush=True)
        self.document = f"{prompt}{''.join(said)}\n"

    def _fitting(self, prompt: str) -> str:
        """The prompt, without the earlier document when both no longer fit."""
        room = self.model.context - len(self.model.encode(prompt))
        if self.document and room < (self.sampling.max_tokens or min(64, self.model.context // 2)):
            log.warn("the conversation fills the model's context and begins anew with your last line")
            return prompt[len(self.document) :]
        return prompt
