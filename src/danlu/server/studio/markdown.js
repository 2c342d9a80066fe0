// Markdown to elements, for text that a model wrote and nobody checked.
//
// It builds nodes and puts text into them; no string ever becomes markup, so there is nothing to escape and nothing to sanitise. HTML in the
// text is shown as the text it is. Pictures become links, because nothing is loaded from elsewhere. Formulas stay as they were written.
// Left out: indented code, underlined headings, reference links, footnotes. Every newline breaks the line, as the model meant it.
// Cost grows with the length of the text: what is not found once is not looked for again, and nesting ends at DEEPEST.
import {copy, h} from "./dom.js";
import {icon} from "./icons.js";
import {t} from "./words.js";

const DEEPEST = 12;
const LONGEST_LINK = 2000;

const FENCE = /^( {0,3})(`{3,}|~{3,})[ \t]*(.*)$/;
const RULE = /^ {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]|$)/;
const QUOTE = /^ {0,3}>/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])([ \t]+|$)/;
const DELIMITERS = /^[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;

/** The blocks of a text as plain objects. */
export function parse(text) {
  return blocks(text.replace(/\r\n?/g, "\n").split("\n"), 0);
}

function blocks(lines, depth) {
  const found = [];
  let at = 0;
  while (at < lines.length) {
    const line = lines[at];
    if (!line.trim()) { at += 1; continue; }
    const reader = depth < DEEPEST ? [fence, heading, rule, math, quote, list, table].find((one) => one.starts(lines, at)) : null;
    at = (reader ?? paragraph).read(lines, at, found, depth);
  }
  return found;
}

const fence = {
  starts(lines, at) {
    const match = FENCE.exec(lines[at]);
    return match && !(match[2][0] === "`" && match[3].includes("`"));
  },
  read(lines, at, found) {
    const [, indent, marks, info] = FENCE.exec(lines[at]);
    const body = [];
    let end = at + 1;
    for (; end < lines.length; end += 1) {
      const close = lines[end].trim();
      if (close.length >= marks.length && lines[end].search(/\S/) < 4 && close === marks[0].repeat(close.length)) break;
      let skip = 0;
      while (skip < indent.length && lines[end][skip] === " ") skip += 1;
      body.push(lines[end].slice(skip));
    }
    found.push({kind: "code", language: info.trim().split(/\s/)[0].slice(0, 30), text: body.join("\n")});
    return end + 1;
  },
};

const heading = {
  starts: (lines, at) => HEADING.test(lines[at]),
  read(lines, at, found) {
    const level = HEADING.exec(lines[at])[1].length;
    let text = lines[at].trim().slice(level).trim();
    let end = text.length;
    while (text[end - 1] === "#") end -= 1;
    if (end === 0 || /[ \t]/.test(text[end - 1])) text = text.slice(0, end).trim(); // closing marks
    found.push({kind: "heading", level, text});
    return at + 1;
  },
};

const rule = {
  starts: (lines, at) => lines[at].length < 500 && RULE.test(lines[at]),
  read(lines, at, found) {
    found.push({kind: "rule"});
    return at + 1;
  },
};

const math = {
  starts: (lines, at) => /^ {0,3}(\$\$|\\\[)/.test(lines[at]) && math.end(lines, at) >= 0,
  end(lines, at) {
    const close = lines[at].includes("$$") ? "$$" : "\\]";
    if (lines[at].trim().length > 2 && lines[at].trim().slice(2).endsWith(close)) return at;
    for (let end = at + 1; end < Math.min(lines.length, at + 60) && lines[end].trim(); end += 1) {
      if (lines[end].trim().endsWith(close)) return end;
    }
    return -1;
  },
  read(lines, at, found) {
    const end = math.end(lines, at);
    found.push({kind: "math", text: lines.slice(at, end + 1).join("\n")});
    return end + 1;
  },
};

const quote = {
  starts: (lines, at) => QUOTE.test(lines[at]),
  read(lines, at, found, depth) {
    const inner = [];
    for (; at < lines.length && QUOTE.test(lines[at]); at += 1) inner.push(lines[at].replace(/^ {0,3}> ?/, ""));
    found.push({kind: "quote", children: blocks(inner, depth + 1)});
    return at;
  },
};

const list = {
  starts: (lines, at) => ITEM.test(lines[at]),
  read(lines, at, found, depth) {
    const first = ITEM.exec(lines[at])[2];
    const ordered = /\d/.test(first);
    const items = [];
    let loose = false;
    while (at < lines.length) {
      const match = ITEM.exec(lines[at]);
      if (!match || match[2].at(-1) !== first.at(-1) || /\d/.test(match[2]) !== ordered || rule.starts(lines, at)) break;
      const pad = match[3].length > 4 || !match[3] ? 1 : match[3].length;
      const indent = match[1].length + match[2].length + pad;
      const inner = [lines[at].slice(indent)];
      let blank = false;
      for (at += 1; at < lines.length; at += 1) {
        const line = lines[at];
        if (!line.trim()) { inner.push(""); blank = true; continue; }
        const spaces = line.length - line.trimStart().length;
        if (spaces >= indent) inner.push(line.slice(indent));
        else if (!blank && !ITEM.test(line) && !interrupts(lines, at)) inner.push(line.trimStart()); // a paragraph that goes on
        else break;
        blank = false;
      }
      const ended = inner.length;
      while (inner.length > 1 && !inner.at(-1)) inner.pop();
      const follows = at < lines.length && ITEM.test(lines[at]) && ITEM.exec(lines[at])[2].at(-1) === first.at(-1);
      if (ended !== inner.length && follows) loose = true;
      const task = /^\[([ xX])\][ \t]/.exec(inner[0]);
      if (task) inner[0] = inner[0].slice(4);
      const children = blocks(inner, depth + 1);
      if (inner.includes("") && children.length > 1 && blankBetween(inner)) loose = true;
      items.push({task: task && task[1] !== " " ? "done" : task ? "open" : null, children});
    }
    found.push({kind: "list", ordered, start: ordered ? Number.parseInt(first, 10) : 1, loose, items});
    return at;
  },
};

/** An empty line that is not inside fenced code: it makes the list loose. */
function blankBetween(lines) {
  let marks = null;
  for (const line of lines) {
    const match = FENCE.exec(line);
    if (match && marks === null) marks = match[2];
    else if (match && match[2].startsWith(marks)) marks = null;
    else if (!line.trim() && marks === null) return true;
  }
  return false;
}

const table = {
  starts: (lines, at) => lines[at].includes("|") && at + 1 < lines.length && lines[at + 1].length < 2000 && lines[at + 1].includes("-")
    && DELIMITERS.test(lines[at + 1]) && cells(lines[at]).length === cells(lines[at + 1]).length,
  read(lines, at, found) {
    const head = cells(lines[at]);
    const align = cells(lines[at + 1]).map((cell) => (cell.endsWith(":") ? (cell.startsWith(":") ? "center" : "right") : ""));
    const rows = [];
    for (at += 2; at < lines.length && lines[at].trim() && !interrupts(lines, at); at += 1) {
      const row = cells(lines[at]).slice(0, head.length);
      while (row.length < head.length) row.push("");
      rows.push(row);
    }
    found.push({kind: "table", head, align, rows});
    return at;
  },
};

function cells(line) {
  const found = [];
  let cell = "";
  let inside = line.trim();
  if (inside.startsWith("|")) inside = inside.slice(1);
  for (let at = 0; at < inside.length; at += 1) {
    if (inside[at] === "\\" && inside[at + 1] === "|") { cell += "|"; at += 1; }
    else if (inside[at] === "|") { found.push(cell.trim()); cell = ""; }
    else cell += inside[at];
  }
  if (cell.trim() || !found.length) found.push(cell.trim());
  return found;
}

const paragraph = {
  read(lines, at, found) {
    const inner = [lines[at].trimStart()];
    for (at += 1; at < lines.length && lines[at].trim() && !interrupts(lines, at); at += 1) inner.push(lines[at].trimStart());
    found.push({kind: "paragraph", text: inner.join("\n").trimEnd()});
    return at;
  },
};

/** Whether a line ends the paragraph above it. */
function interrupts(lines, at) {
  if (fence.starts(lines, at) || heading.starts(lines, at) || rule.starts(lines, at) || quote.starts(lines, at)) return true;
  const item = ITEM.exec(lines[at]);
  return item !== null && lines[at].length > item[0].length && (!/\d/.test(item[2]) || Number.parseInt(item[2], 10) === 1);
}

// -- inside a line -----------------------------------------------------------------------------------------------------------------

const PUNCTUATION = /[\p{P}\p{S}]/u;
const HAN = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}]/u;
const ESCAPABLE = /[!-/:-@[-`{-~]/;
const BARE = /^https?:\/\/[^\s<>"'`\u3000-\u303f\uff00-\uffef]+/;

/** The nodes of a stretch of text. */
export function inline(text, depth = 0, inLink = false) {
  const found = [];
  let plain = "";
  let at = 0;
  let sign = "";
  const missing = new Set(); // closers that do not come any more
  const push = (node) => { if (plain) found.push(plain); plain = ""; found.push(node); };
  while (at < text.length) {
    sign = text[at];
    let took = 0;
    if (sign === "\n") { plain = plain.trimEnd(); push(h("br")); took = 1; }
    else if (sign === "\\") took = escape();
    else if (sign === "`") took = code();
    else if (sign === "$") took = formula();
    else if ((sign === "*" || sign === "_" || sign === "~") && depth < DEEPEST) took = emphasis();
    else if (sign === "[" && depth < DEEPEST) took = link(at);
    else if (sign === "!" && text[at + 1] === "[" && depth < DEEPEST) took = picture();
    else if (sign === "<") took = angled();
    else if (sign === "h" && !inLink && !/[\p{L}\p{N}_]/u.test(text[at - 1] ?? " ")) took = bare();
    if (!took) { plain += sign; took = 1; }
    at += took;
  }
  if (plain) found.push(plain);
  return found;

  function escape() {
    for (const [open, close] of [["\\(", "\\)"], ["\\[", "\\]"]]) {
      if (!text.startsWith(open, at) || missing.has(close)) continue;
      const end = text.indexOf(close, at + 2);
      if (end < 0) missing.add(close);
      else { push(h("span", {class: "math"}, text.slice(at, end + 2))); return end + 2 - at; }
    }
    if (text[at + 1] === "\n") { push(h("br")); return 2; }
    if (!ESCAPABLE.test(text[at + 1] ?? "")) return 0;
    plain += text[at + 1];
    return 2;
  }

  function code() {
    let length = 1;
    while (text[at + length] === "`") length += 1;
    const key = `\`${length}`;
    const end = missing.has(key) ? -1 : closingTicks(text, at + length, length);
    if (end < 0) { missing.add(key); plain += "`".repeat(length); return length; }
    let inner = text.slice(at + length, end).replace(/\n/g, " ");
    if (inner.length > 2 && inner.startsWith(" ") && inner.endsWith(" ") && inner.trim()) inner = inner.slice(1, -1);
    push(h("code", {}, inner));
    return end + length - at;
  }

  function formula() {
    const marks = text[at + 1] === "$" ? "$$" : "$";
    if (missing.has(marks) || /\s/.test(text[at + marks.length] ?? " ")) return 0;
    for (let end = text.indexOf(marks, at + marks.length); end >= 0; end = text.indexOf(marks, end + 1)) {
      if (end - at > 1000) return 0;
      if (end === at + marks.length || (marks === "$" && (/\s/.test(text[end - 1]) || /\d/.test(text[end + 1] ?? "")))) continue;
      push(h("span", {class: "math"}, text.slice(at, end + marks.length)));
      return end + marks.length - at;
    }
    missing.add(marks);
    return 0;
  }

  function emphasis() {
    let run = 1;
    while (text[at + run] === sign) run += 1;
    const lengths = sign === "~" ? (run === 2 ? [2] : []) : [[], [1], [2], [1, 2]][run] ?? [];
    if (flanks(at, run).opens) {
      const ends = lengths.map((length) => {
        const key = sign + length;
        const end = missing.has(key) ? -1 : closer(at + length, length);
        if (end < 0) missing.add(key);
        return {length, end};
      });
      const {length, end} = ends.reduce((best, one) => (one.end > best.end ? one : best), {end: -1}); // of three marks the outer pair first
      if (end >= 0) {
        const tag = sign === "~" ? "del" : length === 2 ? "strong" : "em";
        push(h(tag, {}, inline(text.slice(at + length, end), depth + 1, inLink)));
        return end + length - at;
      }
    }
    plain += sign.repeat(run);
    return run;
  }

  /** Where the closing marks of emphasis begin. */
  function closer(from, length) {
    for (let place = from; place < text.length;) {
      const here = text[place];
      if (here === "\\") { place += 2; continue; }
      if (here === "`") {
        let ticks = 1;
        while (text[place + ticks] === "`") ticks += 1;
        const key = `\`${ticks}`;
        const end = missing.has(key) ? -1 : closingTicks(text, place + ticks, ticks);
        if (end < 0) missing.add(key);
        place = end < 0 ? place + ticks : end + ticks;
        continue;
      }
      if (here !== sign) { place += 1; continue; }
      let run = 1;
      while (text[place + run] === sign) run += 1;
      const fits = length === 2 ? run >= 2 : run !== 2;
      if (fits && place > from && flanks(place, run).closes) return place + run - length;
      place += run;
    }
    return -1;
  }

  /** CommonMark's rule of what a run of marks may do, with Han characters counted as the edges of words that they are. */
  function flanks(place, run) {
    const before = place ? [...text.slice(Math.max(place - 2, 0), place)].at(-1) : " ";
    const after = place + run < text.length ? String.fromCodePoint(text.codePointAt(place + run)) : " ";
    const loose = (one) => /\s/.test(one) || PUNCTUATION.test(one) || HAN.test(one);
    const left = !/\s/.test(after) && (!PUNCTUATION.test(after) || loose(before));
    const right = !/\s/.test(before) && (!PUNCTUATION.test(before) || loose(after));
    if (sign !== "_") return {opens: left, closes: right};
    return {opens: left && (!right || loose(before)), closes: right && (!left || loose(after))};
  }

  function link(from) {
    if (missing.has("]") || inLink) return 0;
    if (text.indexOf("](", from) < 0) missing.add("]");
    const target = missing.has("]") ? null : linkAt(text, from);
    if (!target) return 0;
    const address = safeAddress(target.address);
    if (!address) return 0;
    push(anchor(address, inline(target.label, depth + 1, true)));
    return target.end - at;
  }

  function picture() {
    const target = linkAt(text, at + 1);
    const address = target && safeAddress(target.address);
    if (!address || inLink) return 0;
    const node = anchor(address, [icon("image"), target.label || address]);
    node.classList.add("picture");
    push(node);
    return target.end - at;
  }

  function angled() {
    const end = missing.has(">") ? -1 : text.indexOf(">", at);
    if (end < 0) missing.add(">");
    const address = end > 0 && end - at < LONGEST_LINK && !inLink && safeAddress(text.slice(at + 1, end));
    if (!address) return 0;
    push(anchor(address, [text.slice(at + 1, end)]));
    return end + 1 - at;
  }

  function bare() {
    const match = BARE.exec(text.slice(at, at + LONGEST_LINK));
    if (!match) return 0;
    let shown = match[0].replace(/[.,:;!?*_~]+$/, "");
    while (shown.endsWith(")") && shown.split(")").length > shown.split("(").length) shown = shown.slice(0, -1);
    const address = safeAddress(shown);
    if (!address) return 0;
    push(anchor(address, [shown]));
    return shown.length;
  }
}

function closingTicks(text, from, length) {
  for (let end = text.indexOf("`", from); end >= 0;) {
    let run = 1;
    while (text[end + run] === "`") run += 1;
    if (run === length) return end;
    end = text.indexOf("`", end + run);
  }
  return -1;
}

/** [label](address "title") from the bracket on: {label, address, end}, or null. */
function linkAt(text, from) {
  let open = 0;
  let at = from;
  const last = Math.min(text.length, from + LONGEST_LINK);
  for (; at < last; at += 1) {
    if (text[at] === "\\") at += 1;
    else if (text[at] === "[") open += 1;
    else if (text[at] === "]") { open -= 1; if (!open) break; }
  }
  if (at >= last || text[at + 1] !== "(") return null;
  const rest = text.slice(at + 2, at + 2 + LONGEST_LINK);
  const match = /^[ \t]*(?:<([^<>\n]*)>|([^\s<>]*?))(?:[ \t]+(?:"[^"]*"|'[^']*'))?[ \t]*\)/.exec(rest);
  if (!match) return null;
  let address = match[1] ?? match[2];
  let end = at + 2 + match[0].length;
  if (match[1] === undefined) { // parentheses inside the address, as encyclopedias have them
    while (address.split("(").length > address.split(")").length && text[end] === ")") { address += ")"; end += 1; }
  }
  return {label: text.slice(from + 1, at), address, end};
}

/** The address where it is plain http or https and hides no name or password; null for everything else. */
export function safeAddress(written) {
  if (!/^https?:\/\/[^\s\\]+$/i.test(written) || written.length > LONGEST_LINK) return null;
  try {
    const address = new URL(written);
    return (address.protocol === "http:" || address.protocol === "https:") && !address.username && !address.password
      ? address.href : null;
  } catch {
    return null;
  }
}

function anchor(address, children) {
  return h("a", {href: address, title: address, target: "_blank", rel: "noopener noreferrer nofollow"}, children);
}

// -- elements ----------------------------------------------------------------------------------------------------------------------

function element(block) {
  switch (block.kind) {
    case "code": return codeBlock(block);
    case "heading": return h(`h${block.level}`, {}, inline(block.text));
    case "rule": return h("hr");
    case "math": return h("pre", {class: "math"}, block.text);
    case "quote": return h("blockquote", {}, block.children.map(element));
    case "list": return listElement(block);
    case "table": return tableElement(block);
    default: return h("p", {}, inline(block.text));
  }
}

function codeBlock({language, text}) {
  const button = h("button", {type: "button", class: "quiet", onclick: async () => {
    button.lastChild.textContent = (await copy(text)) ? t("copied") : t("copy_failed");
    setTimeout(() => { button.lastChild.textContent = t("copy"); }, 1500);
  }}, icon("copy"), h("span", {}, t("copy")));
  return h("figure", {class: "code"},
    h("figcaption", {}, h("span", {}, language), button),
    h("pre", {tabindex: "0"}, h("code", {}, text)));
}

function listElement({ordered, start, loose, items}) {
  const made = items.map(({task, children}) => {
    const box = task && h("input", {type: "checkbox", disabled: true, checked: task === "done"});
    const body = children.map((child) => (!loose && child.kind === "paragraph" ? inline(child.text) : element(child)));
    return h("li", {class: task ? "task" : null}, box, body);
  });
  return ordered ? h("ol", {start: start === 1 ? null : start}, made) : h("ul", {}, made);
}

function tableElement({head, align, rows}) {
  const row = (kind, texts) => h("tr", {}, texts.map((text, at) => h(kind, {class: align[at] || null}, inline(text))));
  return h("div", {class: "scroll", tabindex: "0"},
    h("table", {}, h("thead", {}, row("th", head)), h("tbody", {}, rows.map((texts) => row("td", texts)))));
}

/** A text that grows: blocks that did not change keep their elements, so reading, selecting and copying go on undisturbed. */
export class Growing {
  constructor(root) {
    this.root = root;
    this.keys = [];
  }

  show(text) {
    const parsed = parse(text);
    const keys = parsed.map((block) => JSON.stringify(block));
    let same = 0;
    while (same < keys.length && keys[same] === this.keys[same]) same += 1;
    while (this.root.childNodes.length > same) this.root.lastChild.remove();
    this.root.append(...parsed.slice(same).map(element));
    this.keys = keys;
  }
}

/** A text as it stands. */
export function render(text) {
  const root = h("div", {class: "prose"});
  new Growing(root).show(text);
  return root;
}
