"""Instructions to write code, from the library of the Python that runs this: what a function says it does, and how it does it.

python examples/stdlib_instructions.py OUT.jsonl [--most-lines 20]
Every function with a docstring becomes an Alpaca record: its head and its docstring are the instruction, its body the output.
"""

import argparse
import ast
import json
import sysconfig
from pathlib import Path

from danlu.core import files


def main():
    """Write a record for each function."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--library", type=Path, default=Path(sysconfig.get_path("stdlib")), help="folder of Python files")
    parser.add_argument("--most-lines", type=int, default=20, help="longer functions are left out")
    asked = parser.parse_args()
    found = [record for path in sorted(asked.library.glob("*.py")) for record in records(path, asked.most_lines)]
    files.write_text(asked.out, "".join(f"{json.dumps(record, ensure_ascii=False)}\n" for record in found))


def records(path, most_lines):
    """The functions of a file that say what they do."""
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef) or node.end_lineno - node.lineno >= most_lines:
            continue
        said = ast.get_docstring(node)
        if said and len(node.body) > 1:
            head = f"def {node.name}({ast.unparse(node.args)}):"
            body = "\n".join(ast.unparse(part) for part in node.body[1:])
            yield {"instruction": f"Write the body of this Python function.\n\n{head}", "input": said, "output": body}


if __name__ == "__main__":
    main()
