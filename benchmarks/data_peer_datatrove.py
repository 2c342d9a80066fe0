"""The same cleaning with datatrove, run by its own Python: NFKC, Gopher quality and repetition rules, exact and MinHash dedup.

usage: PEER_PYTHON data_peer_datatrove.py INPUT_FOLDER WORK_FOLDER. Prints one JSON line. Knows nothing of danlu.
"""

import json
import sys
import unicodedata
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.exact_dedup import ExactDedupConfig, ExactDedupFilter, ExactDedupSignature, ExactFindDedups
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers.jsonl import JsonlWriter
from datatrove.utils.hashing import HashConfig


class Nfkc(PipelineStep):
    """Unicode normalisation, as the other side does it."""

    name = "NFKC"

    def run(self, data, rank=0, world_size=1):
        for document in data:
            document.text = unicodedata.normalize("NFKC", document.text)
            yield document


def _text(document):
    return document.text


def main() -> None:
    source, work = Path(sys.argv[1]), Path(sys.argv[2])
    config = MinhashConfig(hash_config=HashConfig(precision=64), n_grams=5, num_buckets=14, hashes_per_bucket=8)

    exact = ExactDedupConfig(content_getter=_text)

    def stage(name, steps, tasks=2):
        LocalPipelineExecutor(pipeline=steps, tasks=tasks, workers=min(tasks, 2), logging_dir=str(work / "logs" / name)).run()

    def writer(name):
        return JsonlWriter(str(work / name), compression=None)

    def folder(name):
        return str(work / name)

    stage("clean", [JsonlReader(str(source)), Nfkc(), GopherQualityFilter(), GopherRepetitionFilter(), writer("clean")])
    stage("exact1", [JsonlReader(folder("clean")), ExactDedupSignature(folder("exact-signatures"), exact)])
    stage("exact2", [ExactFindDedups(folder("exact-signatures"), folder("exact-copies"), exact)], tasks=1)
    stage("exact3", [JsonlReader(folder("clean")), ExactDedupFilter(folder("exact-copies"), exact), writer("exact")])
    stage("near1", [JsonlReader(folder("exact")), MinhashDedupSignature(folder("signatures"), config=config)])
    stage("near2", [MinhashDedupBuckets(folder("signatures"), folder("buckets"), config=config)], tasks=config.num_buckets)
    stage("near3", [MinhashDedupCluster(folder("buckets"), folder("remove"), config=config)], tasks=1)
    stage("near4", [JsonlReader(folder("exact")), MinhashDedupFilter(folder("remove")), writer("out")])

    def lines(name):
        return sum(sum(1 for _ in open(path)) for path in (work / name).glob("*.jsonl"))

    print(json.dumps({name: lines(name) for name in ("clean", "exact", "out")}))


if __name__ == "__main__":
    main()
