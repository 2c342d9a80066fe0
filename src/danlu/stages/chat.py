"""Talk with a model in the terminal; a base model goes on with what you write."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from danlu.apps.eliza import CHINESE, ENGLISH, Eliza
from danlu.core import files, log
from danlu.core.errors import BadSettings, DanluError, PromptTooLong
from danlu.engine.request import Sampling
from danlu.stages import STAGES

_HELP = """/reset        forget everything said so far
/retry        write the last answer anew, with the next seed
/seed N       write the next answers with this seed
/system TEXT  how the model shall be from now on; without TEXT: no longer
/save FILE    write the conversation as JSON
/help         these lines
/quit         leave (so does the end of input)
Ctrl-C stops an answer; at the prompt it leaves."""
_ONLY_CHATS = ("/system",)
"""Commands that a base model has no use for."""

_DOCTORS_HELP = """/reset    forget everything said so far
/quit     leave (so does the end of input)"""
_ELIZA = Path("eliza")
_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"


class Chat(Sampling):
    """A model with a chat template holds a conversation; what it thinks before it answers is shown dim, on stderr, and is not
    kept. A base model (one without a template) is no partner in conversation: your text and its own form one document, which it
    continues. When the document fills the model's context, it is said and the document begins anew."""

    positional = ("model",)

    model: Path
    """Folder of the model; or eliza, the program of 1966 that needs none."""
    system: str | None = None
    """How the model shall be: a message of the system before the conversation."""
    overlong: Literal["refuse", "drop"] = "refuse"
    """When a conversation no longer fits the model's context: refuse your line, or drop the oldest exchanges and say which."""


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
    """A conversation with a model. Raises BadSettings for settings that a base model cannot follow."""
    from danlu.engine.model import load

    model = load(config.model)
    model.check_goes_on()
    if model.tokenizer.chat_template:
        session: Session = Talk(model, config, config.system, config.overlong)
    elif given := sorted({"system", "overlong"} & config.model_fields_set):
        raise BadSettings(f"{config.model} has no chat template: it continues a text, and --{given[0]} would change nothing. "
                          f"Leave it out, or teach the model to converse with `danlu finetune`.")  # fmt: skip
    else:
        session = Session(model, config)
    print(notice(config.model, session), file=sys.stderr)
    return session


def doctor(config: Chat) -> "Doctor":
    """A conversation with ELIZA. Raises BadSettings for settings of sampling: nothing is sampled."""
    if given := sorted(config.model_fields_set - {"model"}):
        raise BadSettings(f"eliza takes no settings: its answers involve no chance. Leave out --{', --'.join(given)}.")
    print(f"{ENGLISH.greeting} {CHINESE.greeting} /help shows the commands.", file=sys.stderr)
    return Doctor()


def notice(path: Path, session: "Session") -> str:
    """What to expect from this model, said once."""
    return f"{path}, context {session.model.context} tokens. {session.kind} /help shows the commands."


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
    """A document that a base model continues: what stands in it so far, and how the next piece is drawn."""

    kind = "It is a base model: it continues your text rather than answering it."

    def __init__(self, model: Any, sampling: Sampling):
        self.model, self.sampling, self.document = model, sampling, ""
        self.before, self.line = "", ""
        """The document before the last line, and that line."""

    def command(self, line: str) -> bool:
        """Obey a line that begins with a slash; False when it says to leave."""
        word, _, rest = line.partition(" ")
        if word == "/quit":
            return False
        if word == "/reset":
            self.forget()
            print("Forgotten.", file=sys.stderr)
        elif word == "/retry":
            self.retry()
        elif word == "/seed" and rest.strip().lstrip("-").isdigit():
            self._draw_by(int(rest))
            print(f"Seed {int(rest)}.", file=sys.stderr)
        elif word == "/save" and rest.strip():
            self.save(Path(rest.strip()))
        elif not self.obey(word, rest.strip()):
            print(_HELP if word == "/help" else f"No such command: {line}\n{_HELP}", file=sys.stderr)
        return True

    def obey(self, word: str, rest: str) -> bool:
        """Whether a command of this kind of session was meant, and done."""
        if word in _ONLY_CHATS:
            print(f"{word} is for models with a chat template; this one continues your text.", file=sys.stderr)
        return word in _ONLY_CHATS

    def forget(self) -> None:
        """Begin anew."""
        self.document = self.before = self.line = ""

    def retry(self) -> None:
        """Take the last answer back and write another."""
        if not self.line:
            print("There is no answer yet.", file=sys.stderr)
            return
        self._draw_by(self.sampling.seed + 1)
        self.document = self.before
        self.answer(self.line)

    def save(self, path: Path) -> None:
        """Write the conversation to a new file."""
        if path.exists():
            print(f"{path} is already there; name another file.", file=sys.stderr)
            return
        try:
            files.write_text(path, json.dumps(self.messages(), ensure_ascii=False, indent=1) + "\n")
        except (DanluError, OSError) as error:
            print(f"danlu: {path} cannot be written: {error}", file=sys.stderr)
            return
        print(f"Saved to {path}.", file=sys.stderr)

    def messages(self) -> list[dict[str, Any]]:
        """What was said, as JSON."""
        return [{"role": "document", "content": self.document}]

    def answer(self, line: str) -> None:
        """Print what the model says after the document and this line; Ctrl-C keeps what was said until then."""
        before = self.document
        prompt = self._fitting(f"{before}{line}")
        said = self._print(lambda: self.model.write(prompt, self.sampling))
        if said is not None:
            self.before, self.line, self.document = before, line, f"{prompt}{said}\n"

    def _print(self, write: Any) -> str | None:
        """Show an answer as it comes; what was said, or None where nothing could be answered."""
        said: list[str] = []
        try:
            for piece in self._seen(write()):
                said.append(piece)
                print(piece, end="", flush=True)
        except KeyboardInterrupt:
            print(" [stopped]", end="", file=sys.stderr)
        except DanluError as error:  # this line cannot be answered, the next one may
            print(f"danlu: {error}", file=sys.stderr)
            return None
        print(flush=True)
        return "".join(said)

    def _seen(self, pieces: Iterable[str]) -> Iterable[str]:
        """What of an answer is part of it."""
        return pieces

    def _draw_by(self, seed: int) -> None:
        self.sampling = self.sampling.model_copy(update={"seed": seed})

    def _fitting(self, prompt: str) -> str:
        """The prompt, without the earlier document when both no longer fit."""
        room = self.model.context - len(self.model.encode(prompt))
        if self.document and room < self._least():
            log.warn("the conversation fills the model's context and begins anew with your last line")
            return prompt[len(self.document) :]
        return prompt

    def _least(self) -> int:
        """Tokens that an answer shall have room for."""
        return self.sampling.max_tokens or min(64, self.model.context // 2)


class Talk(Session):
    """A conversation in the form of the model's chat template."""

    kind = "It answers in turns, as its chat template has them."

    def __init__(self, model: Any, sampling: Sampling, system: str | None = None, overlong: str = "refuse"):
        super().__init__(model, sampling)
        self.system, self.overlong = system, overlong
        self.said: list[dict[str, Any]] = []

    def obey(self, word: str, rest: str) -> bool:
        if word != "/system":
            return False
        self.system = rest or None
        print(f"System: {rest}" if rest else "No message of the system any more.", file=sys.stderr)
        return True

    def forget(self) -> None:
        self.said = []

    def retry(self) -> None:
        if not self.said:
            print("There is no answer yet.", file=sys.stderr)
            return
        self._draw_by(self.sampling.seed + 1)
        kept, self.said = self.said, self.said[:-2]
        self.answer(kept[-2]["content"])
        self.said = self.said if len(self.said) >= len(kept) else kept  # where nothing came, the old answer stands

    def messages(self, said: list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
        """The conversation with the message of the system, where there is one."""
        before = [{"role": "system", "content": self.system}] if self.system else []
        return [*before, *(self.said if said is None else said)]

    def answer(self, line: str) -> None:
        """Print what the model answers; Ctrl-C keeps what was said until then."""
        from danlu.engine.converse import reply

        try:
            said = self._remembered([*self.said, {"role": "user", "content": line}])
        except DanluError as error:
            print(f"danlu: {error}", file=sys.stderr)
            return
        answered = self._print(lambda: reply(self.model, self.messages(said), self.sampling))
        if answered is not None:
            self.said = [*said, {"role": "assistant", "content": answered}]

    def _remembered(self, said: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The messages that fit, the oldest exchanges dropped where that is allowed. Raises PromptTooLong."""
        from danlu.engine.converse import prompt_ids

        dropped, least = 0, self._least()
        while (size := len(prompt_ids(self.model, self.messages(said)))) + least > self.model.context and len(said) > 1:
            if self.overlong == "refuse":
                raise PromptTooLong(
                    f"the conversation has {size} tokens, and the model's context of {self.model.context} leaves fewer than "
                    f"{least} for an answer. Nothing was dropped: /reset begins anew, and --overlong drop forgets the oldest "
                    f"exchanges."
                )
            said, dropped = said[2:], dropped + 1
        if dropped:
            log.warn(f"the oldest {dropped} exchange(s) no longer fit the model's context and are forgotten")
        return said

    def _seen(self, pieces: Iterable[str]) -> Iterable[str]:
        """The answer; what is thought before it goes to stderr, dim on a terminal."""
        from danlu.server.reasoning import Thinking, marks_of, opens

        template = self.model.tokenizer.chat_template
        marks = marks_of(template)
        if marks is None:
            yield from pieces
            return
        thinking = Thinking(marks, opens(template, marks, {}))
        before = False
        for is_thought, text in _split(thinking, pieces):
            if is_thought:
                _whisper(text)
            else:
                if before:
                    print(file=sys.stderr)
                yield text
            before = is_thought


def _split(thinking: Any, pieces: Iterable[str]) -> Iterable[tuple[bool, str]]:
    """Pieces of an answer as they come, each with whether it is thought."""
    for piece in pieces:
        yield from thinking.push(piece)
    yield from thinking.finish()


def _whisper(text: str) -> None:
    dim, plain = (_DIM, _PLAIN) if sys.stderr.isatty() else ("", "")
    print(f"{dim}{text}{plain}", end="", file=sys.stderr, flush=True)
