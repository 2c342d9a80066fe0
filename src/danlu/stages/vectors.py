"""Words as vectors: what stands near a word says what it means; measured against people's judgements and analogies."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from danlu.core import log
from danlu.core.artifact import Artifact, check_out, open_artifact, publish
from danlu.core.lineage import raw_input
from danlu.core.seeds import derive
from danlu.core.settings import Named, Settings, choice
from danlu.data.words import Han
from danlu.stages import STAGES
from danlu.train.vectors import VECTORS

if TYPE_CHECKING:
    from danlu.data.word_vectors import WordVectors
    from danlu.evaluate.words import Score
    from danlu.train.vectors.base import Vocabulary

_SHOWN, _NEIGHBOURS, _DRAWN = 12, 8, 120


class Vectors(Settings):
    """Each word gets one vector, whatever it stands next to at the moment: the ancestor of a language model's embedding."""

    positional = ("dataset",)

    dataset: Path
    """Folder that `danlu prepare` wrote."""
    out: Path
    """Folder to write: vectors.safetensors, vocabulary.tsv, a report."""
    method: Annotated[Named, choice(VECTORS)] = {"name": "skipgram"}  # type: ignore[assignment]  # noqa: RUF012
    """How vectors are learned."""
    han: Han = "auto"
    """What a word of Chinese or Japanese is. words: as a segmenter cuts them (extra: zh); characters; auto: words where the
    extra is there."""
    similarity: list[Path] = Field(default_factory=list)
    """Files of word pairs with people's ratings, a pair a line: word, word, rating. Scored by rank correlation."""
    analogy: list[Path] = Field(default_factory=list)
    """Files of questions `a b c d` (a is to b as c is to d), with `: name` lines between sections."""
    show: list[str] = Field(default_factory=list)
    """Words whose neighbours the report shows; left out, a dozen of the common ones."""
    seed: int = 0
    """Seed of every random choice."""
    overwrite: bool = False
    """Whether to replace a finished output."""


@STAGES.register
def vectors(config: Vectors) -> Artifact:
    """Learn, measure, print the figures, write the vectors with their report."""
    from danlu.data.shards import read_texts
    from danlu.data.words import cutter, words
    from danlu.evaluate.words import analogy, similarity
    from danlu.train.vectors.base import Vocabulary

    check_out(config.out, config.overwrite)
    source = open_artifact(config.dataset, "dataset")
    cut, how = cutter(config.han)
    log.say(f"words of letters and digits; Han: {how}")

    def texts() -> Iterator[list[str]]:
        for text in read_texts(config.dataset):
            yield words(text, cut)

    vocabulary = Vocabulary.of(texts(), config.method.min_count)  # type: ignore[attr-defined]
    log.say(f"{len(vocabulary.words):,} words get vectors")
    learned, figures = VECTORS.build(config.method).learn(texts, vocabulary, derive(config.seed, "vectors"))
    scores = [similarity(learned, path) for path in config.similarity]
    scores += [score for path in config.analogy for score in analogy(learned, path)]
    inputs = [source.as_input("dataset")]
    inputs += [raw_input(role, path) for role in ("similarity", "analogy") for path in getattr(config, role)]
    with publish(config.out, kind="vectors", stage="vectors", settings=config, inputs=inputs,
                 overwrite=config.overwrite) as draft:  # fmt: skip
        learned.save(draft.path)
        draft.ledger = ledger(vocabulary)
        draft.metrics = {"words": len(learned.words), "dimensions": learned.vectors.shape[1], "han": how, **figures,
                         "scores": [score.figures() for score in scores]}  # fmt: skip
        draft.seeds = {"seed": config.seed}
        draft.licences, draft.sources = list(source.lineage.licences), list(source.lineage.sources)
        write(draft.path, config, learned, scores, draft.ledger, draft.metrics)
    for score in scores:
        print(told(score))
    assert draft.result is not None
    return draft.result


def ledger(vocabulary: "Vocabulary") -> dict[str, Any]:
    """Where every word went: words = with_vectors + too_rare."""
    kept = sum(vocabulary.counts)
    return {"words": {"words": vocabulary.total, "with_vectors": kept, "too_rare": vocabulary.total - kept}}


def told(score: "Score") -> str:
    """A score in words."""
    found = score.estimate
    figure = f"{found.value:.3f} (95 % interval {found.low:.3f} to {found.high:.3f})" if found else "too few known to say"
    return f"{score.file}: {score.what} {figure}, over {score.known:,} of {score.total:,} whose words are known"


def write(folder: Path, config: Vectors, learned: "WordVectors", scores: "list[Score]", ledger: dict[str, Any],
          metrics: dict[str, Any]) -> None:  # fmt: skip
    """The report: scores, nearest neighbours, a picture of the commonest words, ledger."""
    from danlu.core.page import Page, write_report

    page = Page(f"Word vectors {config.out.name}", f"{config.method.name}, {len(learned.words):,} words")
    page.facts({"words": f"{len(learned.words):,}", "dimensions": learned.vectors.shape[1], "method": config.method.name})
    if scores:
        page.heading("Against people's judgement")
        page.table(["file", "what", "value", "low", "high", "known", "of"], [_row(score) for score in scores])
        page.text("Low and high bound a 95 % interval over the rows of the file; rows with an unknown word are left out.")
    page.heading("Nearest neighbours")
    near = {word: learned.nearest(word, _NEIGHBOURS) for word in config.show or common(learned)}
    page.table(["word", "nearest, with cosine"],
               [(word, ", ".join(f"{other} {value:.2f}" for other, value in found)) for word, found in near.items()])  # fmt: skip
    page.heading("The commonest words on a plane")
    page.figure(picture(learned), "Words that occur alike lie together: the two directions in which the commonest words "
                "differ most (principal components of their vectors).")  # fmt: skip
    page.heading("Ledger")
    page.table(["words of the text", "with a vector", "too rare"], [tuple(ledger["words"].values())])
    page.fold("All settings", config.model_dump_json(indent=1))
    write_report(folder, page, {**metrics, "nearest": near, "ledger": ledger, "settings": config.model_dump(mode="json")})


def _row(score: "Score") -> list[Any]:
    found = score.estimate
    values = [f"{value:.3f}" for value in (found.value, found.low, found.high)] if found else ["too few known", "", ""]
    return [score.file, score.what, *values, score.known, score.total]


def common(learned: "WordVectors") -> list[str]:
    """A dozen words that are common without being the very commonest, which stand near everything."""
    first = min(len(learned.words) // 20, 100)
    rows = np.linspace(first, min(len(learned.words) - 1, 20 * first + _SHOWN), _SHOWN).astype(int)
    return list(dict.fromkeys(learned.words[row] for row in rows))


def picture(learned: "WordVectors") -> Any:
    """The commonest words as points named by themselves."""
    from danlu.core.page import new_figure

    names, rows = learned.words[:_DRAWN], learned.directions[:_DRAWN]
    centred = rows - rows.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
    places = np.pad(centred @ axes.T, ((0, 0), (0, 2 - len(axes))))
    figure, plane = new_figure(10, 7)
    plane.scatter(places[:, 0], places[:, 1], s=4, color="#b5432a")
    for name, (x, y) in zip(names, places, strict=True):
        plane.annotate(name, (x, y), fontsize=8, xytext=(2, 2), textcoords="offset points", parse_math=False)
    plane.set(xticks=[], yticks=[])
    return figure
