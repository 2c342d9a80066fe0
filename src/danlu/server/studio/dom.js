// Making elements. Text enters the page here and in no other way, and always as text: there is no markup from strings in the studio.

const SVG = "http://www.w3.org/2000/svg";

/** h("button", {class: "x", onclick: f, aria-label: "y", disabled: false}, "text", node, null) */
export function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function s(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else if (name === "checked") element.checked = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Put these children in place of the old ones. */
export function replace(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** A custom property: allowed under a policy that forbids style attributes, because no markup is parsed. */
export function setVar(element, name, value) {
  element.style.setProperty(`--${name}`, String(value));
  return element;
}

/** Remember a small thing for this browser or this tab; a browser that forbids it is no error. */
export const kept = {
  get(name, store = "localStorage") {
    try { return globalThis[store].getItem(`danlu.${name}`); } catch { return null; }
  },
  set(name, value, store = "localStorage") {
    try {
      if (value === null) globalThis[store].removeItem(`danlu.${name}`);
      else globalThis[store].setItem(`danlu.${name}`, value);
    } catch { /* private windows may refuse */ }
  },
};

/** Save text as a file of the reader's. */
export function download(name, text, type = "application/json") {
  const address = URL.createObjectURL(new Blob([text], {type}));
  const link = h("a", {href: address, download: name});
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** Copy text; on plain http from another machine browsers have no clipboard, so the old way stands in. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = h("textarea", {class: "offscreen", "aria-hidden": "true", value: text});
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}
