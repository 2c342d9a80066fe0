"""How Markdown is read: as markdown-it reads it, in time proportional to the text, block by block as it grows."""

import json
import re

import pytest

SAMPLES = [
    "Plain text with `code`, **strong**, *slanted*, ~~gone~~ and ***both***.",
    "# One\n## Two ##\n### Three\n\ntext",
    "- one\n- two\n  - inner\n    - deeper\n- three\n\nafter",
    "1. one\n2. two\n\n   more of two\n3. three",
    "3) three\n4) four",
    "* a\n\n* b\n\n* c",
    "> quoted\n> more\n>\n> > inner\n\nafter",
    "```python\nif a < b:\n    print('**no**')\n```\n\n~~~\nx\n~~~",
    "| a | b |\n|:--|--:|\n| 1 | **2** |\n| x \\| y | `c` |",
    "one\ntwo  \nthree\\\nfour",
    "a * b * c and 2*3*4 and snake_case_name and _yes_ and __strong__",
    "[link](https://example.com/a_(b)) and <https://example.org/> and \\*not slanted\\*",
    "`` a ` b `` and ` ` and ```c```",
    "text\n***\ntext\n\n---\n",
    "- a\n\n  ```\n  code\n\n  more\n  ```\n- b",
    "**a *b* c** and *a **b** c*",
    "1. a\n   - b\n   - c\n2. d",
    "- [link](https://example.com/)\n- `code`\n\n1. new",
    "这是**重点**，这是*斜体*。`代码`在这里。",
    "unclosed **strong and `code and [link](",
]

SERIALISE = """(async () => {
  const {render} = await import('/studio/markdown.js');
  const write = (node) => {
    const entities = {'&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;'};
    if (node.nodeType === 3) return node.data.replace(/[&<>"]/g, (sign) => entities[sign]);
    const inner = [...node.childNodes].map(write).join('');
    const tag = node.localName;
    if (node.className === 'code') return write(node.querySelector('pre'));
    if (['div', 'svg', 'tbody', 'thead'].includes(tag)) return inner;
    if (['br', 'hr'].includes(tag)) return `<${tag}>`;
    const start = tag === 'ol' && node.start !== 1 ? ` start="${node.start}"` : '';
    return tag === 'a' ? `<a href="${node.getAttribute('href')}">${inner}</a>` : `<${tag}${start}>${inner}</${tag}>`;
  };
  return %s.map((text) => write(render(text)));
})()"""


def test_markdown_is_read_as_markdown_it_reads_it(page):
    markdown_it = pytest.importorskip("markdown_it", reason="markdown-it-py is missing: pip install markdown-it-py")
    reference = markdown_it.MarkdownIt("commonmark", {"breaks": True, "html": False}).enable(["table", "strikethrough"])
    reference.disable(["lheading", "code", "html_block", "html_inline"])
    expected = []
    for text in SAMPLES:
        plain = (
            reference.render(text)
            .replace("<s>", "<del>")
            .replace("</s>", "</del>")
            .replace("<br />", "<br>")
            .replace("<hr />", "<hr>")
        )
        plain = plain.replace("</code></pre>", "\0").replace("\n\0", "</code></pre>").replace("\0", "</code></pre>")
        plain = re.sub(r'<code class="[^"]*">', "<code>", plain)
        inside = [part if at % 2 else squeeze(part) for at, part in enumerate(split_code(plain))]
        expected.append("".join(inside))
    found = page.run(SERIALISE % json.dumps(SAMPLES))
    for text, mine, theirs in zip(SAMPLES, found, expected, strict=True):
        assert mine == theirs, text


def split_code(html: str) -> list[str]:
    return re.split(r"(<pre>.*?</pre>)", html, flags=re.DOTALL)


def squeeze(html: str) -> str:
    """Without what differs in writing only: newlines between tags, classes and alignments, the body of tables."""
    html = re.sub(r"<(/?)(?:tbody|thead)>\n?", "", html)
    html = re.sub(r' (?:style|class|title)="[^"]*"', "", html)
    return html.replace("\n", "")


def test_markdown_takes_time_in_proportion_to_the_text(page):
    """Texts that make careless parsers take for ever, at 20,000 characters."""
    bombs = [
        "[" * 20000, "*a " * 7000, "**" * 10000, "`" * 20000, "`a``" * 5000, "> " * 10000, "- " * 10000, "![" * 10000,
        "[a](" * 5000, "<" * 20000, "_a_" * 7000, "$a" * 10000, "\\(" * 10000, "|" * 20000, "| a\n|-" * 3000, "#" * 20000 + "x",
        " " * 20000 + "x", "~~a" * 7000, "1. a\n" * 4000, "***a" * 5000, "http://" * 3000, "*" * 20000 + "a",
        "- " * 500 + "\n" * 10000,
    ]  # fmt: skip
    slow = page.run(f"""(async () => {{
      const {{render}} = await import('/studio/markdown.js');
      const spend = (text) => {{ const begun = performance.now(); render(text); return performance.now() - begun; }};
      return {json.dumps(bombs)}.map((text) => [text.slice(0, 6), spend(text)])
        .filter(([, spent]) => spent > 1500);
    }})()""")
    assert slow == []


def test_a_growing_text_keeps_the_blocks_that_are_done(page):
    kept = page.run("""(async () => {
      const {Growing} = await import('/studio/markdown.js');
      const root = document.createElement('div');
      const growing = new Growing(root);
      growing.show('# one\\n\\ntwo');
      const first = root.firstChild;
      growing.show('# one\\n\\ntwo and **mo');
      growing.show('# one\\n\\ntwo and **more**\\n\\nthree');
      return [root.firstChild === first, root.innerText, root.childNodes.length];
    })()""")
    assert kept == [True, "onetwo and morethree", 3]
