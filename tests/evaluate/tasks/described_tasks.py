"""Small tasks in YAML over files of every kind, one for each way of asking; for us and for lm-eval alike."""

import csv
import json
from pathlib import Path

import yaml

QUESTIONS = [
    {"q": "The furnace was lit at", "c": ["dawn", "noon", "the lead had melted"], "g": 0, "k": "en"},
    {"q": "By noon the lead ", "c": ["had melted", "was lit"], "g": 1, "k": "en"},
    {"q": "丹炉已在黎明时", "c": ["点燃", "熔化了", "铅"], "g": 0, "k": "zh"},
    {"q": "Two and three\n", "c": ["five", "five and two", "three"], "g": 2, "k": "en"},
    {"q": "It is a capital", "c": ["mistake", "theory"], "g": 0, "k": "en"},
]
SHOTS = [{"q": "Lead melts at", "c": ["noon", "dawn"], "g": 1, "k": "en"}, {"q": "Two", "c": ["one", "2"], "g": 0, "k": "en"},
         {"q": "铅", "c": ["黎明", "中午"], "g": 1, "k": "zh"}]  # fmt: skip
SCHEMAS = [{"o": ["The lead melted because the lead", "The lead melted because the furnace"], "e": "was hot.", "g": 1},
           {"o": ["Gold is it that gold", "Gold is it that lead"], "e": "had been.", "g": 0}]  # fmt: skip
YES_NO = [["text", "label"], ["the furnace is lit", 1], ["the lead is gold, at noon", 0], ["丹炉已点燃", 1], ["nobody, asked", 1]]
TEXTS = [{"t": "The furnace was lit at dawn and by noon the lead had melted into gold. " * 3, "u": "into gold"},
         {"t": "丹炉已在黎明时点燃，到中午铅就熔化了。", "u": " 铅"}, {"t": "x", "u": "dawn"}]  # fmt: skip
SUMS = [
    {"q": f"Question: what is {a} and {b}? Answer:", "a": f"so it is\n#### {a + b}"} for a, b in ((2, 3), (4, 4), (7, 1), (5, 5))
]


def write(folder: Path) -> dict[str, Path]:
    """Write the files and the tasks; paths in them are absolute, so that lm-eval finds them from anywhere."""
    lines = {"questions": QUESTIONS, "schemas": SCHEMAS, "texts": TEXTS, "sums": SUMS}
    for name, rows in lines.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (folder / "shots.json").write_text(json.dumps(SHOTS), encoding="utf-8")
    with open(folder / "yes_no.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(YES_NO)
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(SUMS), folder / "sums.parquet")
    place = {name: str(folder / name) for name in
             ("questions.jsonl", "schemas.jsonl", "texts.jsonl", "shots.json", "yes_no.csv", "sums.parquet")}  # fmt: skip
    choose = {"output_type": "multiple_choice", "doc_to_text": "{{q}}", "doc_to_target": "g", "doc_to_choice": "c"}
    files = {"dataset_path": "json", "test_split": "test", "dataset_kwargs": {"data_files": {"test": place["questions.jsonl"]}}}
    tasks = {
        "choose": {**files, **choose, "metric_list": metrics("acc", "acc_norm", "acc_bytes", "exact_match", "acc_mutual_info")},
        "with_shots": {
            **files, **choose, "dataset_kwargs": {"data_files": {"test": place["questions.jsonl"], "shots": place["shots.json"]}},
            "fewshot_split": "shots", "num_fewshot": 2, "description": "In {{k}}: answer.\n\n", "target_delimiter": " = ",
            "fewshot_delimiter": "\n", "metric_list": metrics("acc", "acc_norm"),
        },
        "own_shots": {**files, **choose, "doc_to_text": "{{q|trim}}", "fewshot_split": "test", "num_fewshot": 1,
                      "metric_list": metrics("acc")},
        "first_shots": {
            **files, **choose, "doc_to_text": "q", "doc_to_target": "{{g}}", "doc_to_choice": "{{c}}", "fewshot_split": "shots",
            "dataset_kwargs": {"data_files": {"test": place["questions.jsonl"], "shots": place["shots.json"]}},
            "fewshot_config": {"sampler": "first_n"}, "num_fewshot": 1, "metric_list": metrics("acc"),
        },
        "schemas": {**files, "dataset_kwargs": {"data_files": {"test": place["schemas.jsonl"]}}, "output_type": "multiple_choice",
                    "doc_to_text": "g", "doc_to_target": "e", "doc_to_choice": "o", "metric_list": metrics("acc", "acc_norm")},
        "yes_no": {"dataset_path": "csv", "test_split": "train", "dataset_kwargs": {"data_files": place["yes_no.csv"]},
                   "output_type": "multiple_choice", "doc_to_text": "{{text}}. True?", "doc_to_target": "label",
                   "doc_to_choice": ["no", "yes"], "metric_list": metrics("acc", "f1", "mcc", "brier_score")},
        "continue": {**files, "dataset_kwargs": {"data_files": {"test": place["texts.jsonl"]}}, "output_type": "loglikelihood",
                     "doc_to_text": "{{t[:30]}}", "doc_to_target": "u", "metric_list": metrics("perplexity", "acc")},
        "whole": {**files, "dataset_kwargs": {"data_files": {"test": place["texts.jsonl"]}},
                  "output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{t}}",
                  "metric_list": metrics("word_perplexity", "byte_perplexity", "bits_per_byte")},
        "write": {"dataset_path": "parquet", "validation_split": "dev", "output_type": "generate_until", "doc_to_text": "q",
                  "dataset_kwargs": {"data_files": {"dev": place["sums.parquet"]}}, "doc_to_target": "{{a}}",
                  "generation_kwargs": {"until": ["\n\n", "?"], "max_gen_toks": 12, "temperature": 0.0, "do_sample": False},
                  "metric_list": metrics("exact_match", "bleu", "chrf", "chrf++")},
        "extract": {"dataset_path": "parquet", "validation_split": "dev", "output_type": "generate_until", "doc_to_text": "q",
                    "dataset_kwargs": {"data_files": {"dev": place["sums.parquet"]}},
                    "doc_to_target": "{{a.split('#### ')[-1]|trim}}", "generation_kwargs": {"until": ["Z"], "max_gen_toks": 20},
                    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True,
                                     "ignore_case": True, "ignore_punctuation": True, "regexes_to_ignore": ["[^a-z0-9]", "l"]}],
                    "filter_list": [{"name": "letters", "filter": [
                                        {"function": "regex", "regex_pattern": r"([a-z])|([0-9])", "group_select": -1},
                                        {"function": "take_first"}]},
                                    {"name": "all", "filter": [{"function": "remove_whitespace"}, {"function": "take_first"}]}]},
    }  # fmt: skip
    found = {}
    for name, told in tasks.items():
        found[name] = folder / f"{name}.yaml"
        found[name].write_text(yaml.safe_dump({"task": name, **told}, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return found


_LOWER = {"perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "brier_score"}
_AGGREGATED = {"perplexity": "perplexity", "word_perplexity": "weighted_perplexity", "byte_perplexity": "weighted_perplexity",
               "bits_per_byte": "bits_per_byte", "brier_score": "brier_score", "mcc": "matthews_corrcoef", "f1": "f1",
               "bleu": "bleu", "chrf": "chrf", "chrf++": "chrf++"}  # fmt: skip


def metrics(*names: str) -> list[dict[str, object]]:
    """Entries of a metric_list with all that lm-eval asks for."""
    return [{"metric": name, "aggregation": _AGGREGATED.get(name, "mean"), "higher_is_better": name not in _LOWER}
            for name in names]  # fmt: skip
