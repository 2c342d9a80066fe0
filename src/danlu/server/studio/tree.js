// Figures, ledgers and settings of a record: plain data of any shape as tables and lists.
import {h} from "./dom.js";
import {brief, number} from "./words.js";

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const isNumber = (value) => typeof value === "number";

/** A leaf in words. */
function leaf(value) {
  if (isNumber(value)) return Number.isInteger(value) ? number(value) : brief(value);
  if (value === null || value === undefined) return "–";
  return String(value);
}

/** Whether every part is a row of figures, as ledgers by source are. */
const isTable = (data) => isObject(data) && Object.keys(data).length > 0
  && Object.values(data).every((row) => isObject(row) && Object.keys(row).length > 0 && Object.values(row).every(isNumber));

export function table(data) {
  const columns = [...new Set(Object.values(data).flatMap((row) => Object.keys(row)))];
  return h("div", {class: "scroll", tabindex: "0"}, h("table", {class: "numbers"},
    h("thead", {}, h("tr", {}, h("th"), columns.map((name) => h("th", {}, words(name))))),
    h("tbody", {}, Object.entries(data).map(([name, row]) => h("tr", {}, h("th", {scope: "row"}, words(name)),
      columns.map((column) => h("td", {}, column in row ? leaf(row[column]) : "")))))));
}

/** Anything: a table where it is one, else names and values, nested as they are. */
export function outline(data, depth = 0) {
  if (isTable(data)) return table(data);
  if (isObject(data) && depth < 8) {
    const entries = Object.entries(data);
    const flat = entries.filter(([, value]) => !isObject(value) && !(Array.isArray(value) && value.some(isObject)));
    const deep = entries.filter(([, value]) => isObject(value) && Object.keys(value).length);
    const lists = entries.filter(([, value]) => Array.isArray(value) && value.some(isObject));
    return h("div", {class: "outline"},
      flat.length ? h("dl", {class: "pairs"}, flat.map(([name, value]) => h("div", {}, h("dt", {}, words(name)),
        h("dd", {}, Array.isArray(value) ? value.map(leaf).join(", ") || "–" : leaf(value))))) : null,
      deep.map(([name, value]) => h("section", {}, h("h4", {}, words(name)), outline(value, depth + 1))),
      lists.map(([name, value]) => h("section", {}, h("h4", {}, words(name)), value.slice(0, 50).map((one) => outline(one, depth + 1)))));
  }
  return h("p", {}, isObject(data) || Array.isArray(data) ? JSON.stringify(data) : leaf(data));
}

const words = (name) => name.replaceAll("_", " ");

/** A part that opens on demand. */
export const fold = (title, open, ...content) => h("details", {class: "fold", open}, h("summary", {}, title), content);
