"""A task written down in lm-evaluation-harness's YAML form: the part of that form which is read here, key by key.

Every other key is an error that names it. Left out: Python in the file (`!function`, process_docs, process_results), data sets
that would have to be fetched, prompts of other libraries, images and sound.
"""

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field

from danlu.core.errors import BadSettings
from danlu.core.settings import Settings, load
from danlu.evaluate.tasks.documents import FORMS

_CODE = "it is Python, which a task's file may not bring along; write what it makes of the documents into the data instead"
_REFUSED = {
    "process_docs": _CODE, "process_results": _CODE, "custom_dataset": _CODE, "unsafe_code": _CODE,
    "dataset_name": "it picks a part of a data set that is fetched; local files have none",
    "use_prompt": "prompts of other libraries are not read; write doc_to_text",
    "should_decontaminate": "it needs other people's indexes of training data",
    "doc_to_decontamination_query": "it needs other people's indexes of training data",
    "doc_to_image": "models here read text", "doc_to_audio": "models here read text",
    "gen_prefix": "put the beginning of the answer at the end of doc_to_text",
    "repeats": "each question is answered once",
    "include": "give the whole task in one file",
    "group": "give the tasks one by one: --tasks one.yaml,two.yaml",
}  # fmt: skip


class Described(Settings):
    """The keys, with lm-eval's names and defaults."""

    task: str
    """Name of the task."""
    tag: str | list[str] | None = None
    """Shown in the report."""
    metadata: dict[str, Any] = Field({})
    """Shown in the report."""
    dataset_path: Literal["json", "csv", "parquet"]
    """What the files are."""
    dataset_kwargs: dict[str, Any] = Field({})
    """Only data_files."""
    data_files: str | list[str] | dict[str, str | list[str]] | None = None
    """The files, or the files of each split."""
    training_split: str | None = None
    """Where examples come from if fewshot_split is not said."""
    validation_split: str | None = None
    """What is asked if test_split is not said."""
    test_split: str | None = None
    """What is asked."""
    fewshot_split: str | None = None
    """Where examples come from."""
    output_type: Literal["multiple_choice", "loglikelihood", "loglikelihood_rolling", "generate_until"] = "generate_until"
    """What the model is asked for."""
    doc_to_text: str | int = ""
    """The question: a column, or a template of jinja2. For choices that stand in the context: which of them is right."""
    doc_to_target: str | int | list[str] | None = None
    """The answer, or which choice is right."""
    doc_to_choice: str | list[str] | dict[str, str] | None = None
    """The choices: a list, a column, or a template that writes a list."""
    description: str = ""
    """Stands before everything."""
    num_fewshot: int | None = Field(None, ge=0)
    """Examples before each question."""
    fewshot_config: dict[str, Any] = Field({})
    """Only sampler: default (drawn) or first_n."""
    fewshot_delimiter: str = "\n\n"
    """Between examples."""
    target_delimiter: str = " "
    """Between a question and its answer."""
    metric_list: list[dict[str, Any]] | None = None
    """What is counted."""
    generation_kwargs: dict[str, Any] | None = None
    """until, max_gen_toks, temperature, do_sample."""
    filter_list: list[dict[str, Any]] | None = None
    """What is taken out of an answer before it is judged."""

    @property
    def asked_split(self) -> str:
        """The split whose documents are asked."""
        found = self.test_split or self.validation_split
        assert found
        return found

    @property
    def shown_split(self) -> str | None:
        """The split that examples are taken from."""
        return self.fewshot_split or self.training_split or self.validation_split

    @property
    def files(self) -> Any:
        """data_files, wherever they were given."""
        return self.data_files or self.dataset_kwargs["data_files"]


def read(path: Path) -> Described:
    """A task's file. Raises BadSettings naming every key that is not read here."""
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506  # a SafeLoader that explains one tag
    except OSError as error:
        raise BadSettings(f"--tasks {path}: {error.strerror}. Give a task's YAML file, or a name (danlu list tasks).") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadSettings(f"--tasks {path} is not YAML: {error}") from None
    if not isinstance(tree, dict):
        raise BadSettings(f"--tasks {path}: expected `key: value` lines at the top, found {type(tree).__name__}.")
    for key, why in _REFUSED.items():
        if tree.get(key) not in (None, False):
            raise BadSettings(f"--tasks {path}: {key} is not read here: {why}.")
    if tree.get("dataset_path") not in FORMS:
        raise BadSettings(
            f"--tasks {path}: dataset_path is {tree.get('dataset_path')!r}. Tasks read local files: say {', '.join(FORMS)}, and "
            f"data_files. Nothing is fetched."
        )
    found = load(Described, {key: value for key, value in tree.items() if key not in _REFUSED}, f"--tasks {path}")
    _check(found, f"--tasks {path}")
    return found


def _check(task: Described, where: str) -> None:
    """Raise BadSettings for keys that do not go together."""
    if strange := sorted(task.dataset_kwargs.keys() - {"data_files"}):
        raise BadSettings(f"{where}: dataset_kwargs.{strange[0]} is not read here; known: data_files.")
    if (task.data_files is None) == ("data_files" not in task.dataset_kwargs):
        raise BadSettings(f"{where}: say the files once, as data_files or dataset_kwargs.data_files.")
    if not (task.test_split or task.validation_split):
        raise BadSettings(f"{where}: say test_split (or validation_split): the split whose documents are asked.")
    if strange := sorted(task.fewshot_config.keys() - {"sampler"}):
        raise BadSettings(f"{where}: fewshot_config.{strange[0]} is not read here; known: sampler.")
    if task.fewshot_config.get("sampler", "default") not in ("default", "first_n"):
        raise BadSettings(f"{where}: fewshot_config.sampler is default or first_n, not {task.fewshot_config['sampler']!r}.")
    if task.doc_to_target is None:
        raise BadSettings(f"{where}: say doc_to_target, the answer.")
    choices = task.doc_to_choice is not None
    if task.output_type == "multiple_choice" and not choices:
        raise BadSettings(f"{where}: output_type multiple_choice needs doc_to_choice.")
    if task.output_type != "generate_until" and (task.generation_kwargs or task.filter_list):
        raise BadSettings(f"{where}: generation_kwargs and filter_list are for generate_until, not {task.output_type}.")
    if task.output_type == "loglikelihood_rolling" and task.num_fewshot:
        raise BadSettings(f"{where}: num_fewshot: a text that is only read has no examples before it.")


class _Loader(yaml.SafeLoader):
    """YAML in which `!function` is explained."""


def _function(loader: yaml.Loader, node: yaml.Node) -> Any:
    raise BadSettings(f"!function {node.value} is not read here: {_CODE}.")


_Loader.add_constructor("!function", _function)
