// The gallery: every picture that is kept, the newest first.

import * as api from "./api.js";
import { make, toast } from "./dom.js";
import { one } from "./one.js";
import { say } from "./words.js";

/** A picture on the wall. */
export const hung = (picture, open) => make("li", { "data-id": picture.id },
  make("figure", {},
    make("button", { type: "button", class: "tile", "aria-label": say("open", { prompt: picture.prompt }), onclick: () => open(picture) },
      make("img", { src: `/api/v1/images/${picture.id}/small`, alt: "", loading: "lazy", class: picture.width <= 64 ? "crisp" : "" })),
    picture.favourite ? make("span", { class: "heart", "aria-hidden": "true" }, "♥") : null,
    make("figcaption", {}, picture.prompt)));

/** The page; `act` is what a picture offers. */
export const gallery = (act) => {
  let shown = [], next = null, asked = 0;
  const wall = make("ul", { class: "wall" });
  const none = make("p", { class: "empty", hidden: true });
  const more = make("button", { type: "button", class: "more", hidden: true, onclick: () => load(false) }, say("more"));
  const search = make("input", { type: "search", "aria-label": say("search"), placeholder: say("search"), oninput: () => soon() });
  const loved = make("button", { type: "button", "aria-pressed": "false", onclick: () => { loved.setAttribute("aria-pressed", String(loved.getAttribute("aria-pressed") !== "true")); load(true); } }, "♥ ", say("favourites"));

  let timer;
  const soon = () => { clearTimeout(timer); timer = setTimeout(() => load(true), 200); };

  const open = (picture) => one(picture, {
    ...act,
    around: (id, way) => shown[shown.findIndex((each) => each.id === id) + way],
    changed: (changed) => { shown = shown.map((each) => (each.id === changed.id ? changed : each)); hang(); },
    gone: (id) => { shown = shown.filter((each) => each.id !== id); hang(); },
    back: () => load(true),
  });

  const hang = () => {
    wall.replaceChildren(...shown.map((picture) => hung(picture, open)));
    none.hidden = shown.length > 0;
    none.textContent = say(search.value || loved.getAttribute("aria-pressed") === "true" ? "nothing" : "empty");
    more.hidden = next === null;
  };

  const load = async (anew) => {
    const now = ++asked;
    const query = { limit: "60" };
    if (search.value.trim()) query.search = search.value.trim();
    if (loved.getAttribute("aria-pressed") === "true") query.favourites = "true";
    if (!anew && next) query.before = next;
    try {
      const found = await api.pictures(query);
      // an answer that was overtaken by another question is none
      if (now !== asked) return;
      shown = anew ? found.images : [...shown, ...found.images];
      next = found.next;
      hang();
    } catch (problem) { toast(problem.message); }
  };

  // arrows go from picture to picture
  wall.addEventListener("keydown", (event) => {
    const tiles = [...wall.querySelectorAll(".tile")], at = tiles.indexOf(document.activeElement);
    const columns = getComputedStyle(wall).gridTemplateColumns.split(" ").length;
    const way = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
    if (at < 0 || !way || !tiles[at + way]) return;
    event.preventDefault();
    tiles[at + way].focus();
  });

  return { element: make("div", {}, make("h2", { class: "unseen" }, say("gallery")), make("div", { class: "find" }, search, loved), wall, none, more), load: () => load(true), search };
};
