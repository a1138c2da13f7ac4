// What the page says, in the language that was chosen.

import EN from "./english.js";
import VI from "./vietnamese.js";

const ALL = { en: EN, vi: VI };
const chosen = localStorage.getItem("imagen.language") ?? (navigator.language.startsWith("vi") ? "vi" : "en");

/** The language of the page. */
export const language = chosen in ALL ? chosen : "en";

/** A sentence, with what stands in its braces. */
export const say = (key, values = {}) =>
  (ALL[language][key] ?? EN[key] ?? key).replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));

/** A number as people of the language write it. */
export const number = (value, digits = 0) => value.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });

/** A moment as people of the language write it. */
export const moment = (ms) => new Date(ms).toLocaleString(language, { dateStyle: "medium", timeStyle: "short" });

/** Changes to the other language; the page is made anew. */
export const other = () => {
  localStorage.setItem("imagen.language", language === "en" ? "vi" : "en");
  location.reload();
};

/** Says what the page's own elements say. */
export const sayAll = () => {
  document.documentElement.lang = language;
  for (const element of document.querySelectorAll("[data-say]")) element.textContent = say(element.dataset.say);
  for (const element of document.querySelectorAll("[data-label]")) element.setAttribute("aria-label", say(element.dataset.label));
};
