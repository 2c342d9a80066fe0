"""Errors a user can act on: what was asked, what was found, what is known, what to do next.

Every class is a row of the errors page (docs/*/errors.md); its `anchor` is the heading there.
"""

import difflib
from collections.abc import Iterable


class DanluError(Exception):
    """Base of every error we raise on purpose; the command line prints it without a traceback."""

    exit_code = 1
    anchor = ""

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text} (docs: errors#{self.anchor})" if self.anchor else text


def nearest(name: str, known: Iterable[str], most: int = 3) -> str:
    """A hint in words: the near names, or all that is known.

    >>> nearest("adamww", ["adamw", "muon", "sgd"])
    'Did you mean adamw?'
    >>> nearest("zzz", ["adamw", "muon"])
    'Known: adamw, muon.'
    """
    known = list(known)
    near = difflib.get_close_matches(name, known, n=most)
    return f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(known) or 'none'}."


class UnknownName(DanluError):
    """A name that no file of a shelf carries."""

    exit_code = 2
    anchor = "unknown-name"

    def __init__(self, kind: str, name: str, known: Iterable[str]):
        super().__init__(f"no {kind} called {name!r}. {nearest(name, known)}")


class BadSettings(DanluError):
    """A recipe or flag that does not fit; lists every wrong line at once."""

    exit_code = 2
    anchor = "bad-settings"


class MissingExtra(DanluError):
    """An optional dependency is needed and absent."""

    anchor = "missing-extra"

    def __init__(self, extra: str, needed_for: str):
        super().__init__(f"{needed_for} needs an optional part. Install it with: pip install 'danlu[{extra}]'")


class OutputExists(DanluError):
    """The output folder is already there; nothing is overwritten unless asked by name."""

    exit_code = 2
    anchor = "output-exists"


class WorkFolderMismatch(DanluError):
    """A half-finished run with other settings or inputs lies where this one would resume."""

    exit_code = 2
    anchor = "work-folder-mismatch"


class NotAnArtifact(DanluError):
    """A path that holds no artefact, or one of another kind."""

    exit_code = 2
    anchor = "not-an-artefact"


class DamagedArtifact(DanluError):
    """A file of an artefact is missing, cut short or altered."""

    anchor = "damaged-artefact"


class BadInput(DanluError):
    """Input that cannot be used as it is."""

    anchor = "bad-input"


class PreflightFailed(BadInput):
    """Samples, template or packing with which the model would learn something else than it is served with."""

    anchor = "preflight"


class NoUsableText(DanluError):
    """Nothing is left to work on: an empty folder, or every document was dropped or quarantined."""

    anchor = "no-usable-text"


class DatasetTooSmall(DanluError):
    """Fewer tokens than one training batch needs."""

    anchor = "dataset-too-small"


class VocabularyTooLarge(DanluError):
    """More tokens asked for than the text can fill."""

    anchor = "vocabulary-too-large"


class TokenizerMismatch(DanluError):
    """Model and tokenizer disagree about the vocabulary."""

    anchor = "tokenizer-mismatch"


class DamagedWeights(DanluError):
    """Weights that are cut short, misshapen, missing or superfluous."""

    anchor = "damaged-weights"


class UnsupportedModel(DanluError):
    """A model folder that asks for something no family here computes."""

    anchor = "unsupported-model"


class PromptTooLong(DanluError):
    """Prompt and answer do not fit into the model's context."""

    exit_code = 2
    anchor = "prompt-too-long"


class QueueFull(DanluError):
    """More requests wait than the engine takes."""

    anchor = "queue-full"


class EngineClosed(DanluError):
    """The engine has stopped, or is stopping, and takes no more requests."""

    anchor = "engine-closed"


class AnswerFault(DanluError):
    """A request that failed after it was accepted. `kind` is that of the engine's fault (engine/events.py)."""

    anchor = "answer-fault"

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind


class NotFinite(DanluError):
    """Loss or gradient left the numbers and the guard was told to stop."""

    anchor = "not-finite"


class OutOfMemory(DanluError):
    """The run would not fit, by prediction or by experience."""

    anchor = "out-of-memory"


class NoSpace(DanluError):
    """The disk is full or the folder cannot be written."""

    anchor = "no-space"


class BackendFailed(DanluError):
    """Another engine, asked over the network, does not answer, or answers something else."""

    anchor = "backend-failed"


class Interrupted(DanluError):
    """Stopped by a person or the system; the same command goes on."""

    exit_code = 130
    anchor = "interrupted"
