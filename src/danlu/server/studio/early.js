// Runs before the first paint, so that a chosen theme and language do not flash. Not a module: modules run later.
"use strict";
(() => {
  const kept = (name) => { try { return localStorage.getItem(`danlu.${name}`); } catch { return null; } };
  const theme = kept("theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  const language = kept("language") ?? (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en");
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
})();
