// Icons: strokes on a grid of 24, drawn in the colour of the text around them.
import {s} from "./dom.js";

const PATHS = {
  chat: "M4 5h16v11H9l-5 4z",
  engine: "M5 5h6v6H5zM13 5h6v6h-6zM5 13h6v6H5zM13 13h6v6h-6z",
  runs: "M4 5v15h16M7 15l4-5 3 3 5-7",
  artefacts: "M12 3l8 4.5v9L12 21l-8-4.5v-9zM4 7.5l8 4.5 8-4.5M12 12v9",
  feedback: "M12 4v16M6 20h12M4 13l3-7 3 7a3 3 0 0 1-6 0M14 11l3-7 3 7a3 3 0 0 1-6 0",
  send: "M12 20V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
  again: "M20 11a8 8 0 1 0-2.3 6.3M20 5v6h-6",
  edit: "M4 20h4L19 9l-4-4L4 16zM13 7l4 4",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  tokens: "M4 7h5v4H4zM11 7h9v4h-9zM4 14h9v4H4zM15 14h5v4h-5z",
  settings: "M4 7h9M17 7h3M4 17h3M11 17h9M15 7m-2 0a2 2 0 1 0 4 0a2 2 0 1 0-4 0M9 17m-2 0a2 2 0 1 0 4 0a2 2 0 1 0-4 0",
  compare: "M4 5h7v14H4zM13 5h7v14h-7z",
  fresh: "M12 5v14M5 12h14",
  save: "M12 4v11M7 11l5 5 5-5M5 20h14",
  close: "M6 6l12 12M18 6L6 18",
  moon: "M20 14.5A8 8 0 1 1 9.5 4a6.5 6.5 0 0 0 10.5 10.5z",
  sun: "M12 8a4 4 0 1 0 0 8a4 4 0 1 0 0-8M12 2v3M12 19v3M2 12h3M19 12h3M5 5l2 2M17 17l2 2M19 5l-2 2M7 17l-2 2",
  warning: "M12 4l9 16H3zM12 10v4M12 17v.5",
  more: "M4 12h16M14 6l6 6-6 6",
  key: "M9 11a4 4 0 1 0 0 8a4 4 0 1 0 0-8M12 12l8-8M16 8l3 3",
  image: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4",
};

/** An icon; it says nothing by itself, so the button around it carries the words. */
export function icon(name) {
  return s("svg", {viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true", focusable: "false"}, s("path", {d: PATHS[name]}));
}
