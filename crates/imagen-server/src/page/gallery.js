// The gallery: every picture that is kept, the newest first.

import * as api from "./api.js";
import { keep, make, toast, voice } from "./dom.js";
import { one } from "./one.js";
import { number, say } from "./words.js";

/** A picture on the wall. */
export const hung = (picture, open, chosen = null) => make("li", { "data-id": picture.id },
  make("figure", {},
    chosen ? make("input", { type: "checkbox", class: "choice", "aria-label": say("select", { prompt: picture.prompt }), checked: chosen.has(picture.id), onchange: (event) => chosen.turn(picture.id, event.target.checked) }) : null,
    make("button", { type: "button", class: "tile", "aria-label": say("open", { prompt: picture.prompt }), onclick: (event) => { if (chosen) event.currentTarget.parentElement.querySelector(".choice").click(); else open(picture); } },
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

  // several at once
  const ids = new Set();
  const chosen = { has: (id) => ids.has(id), turn: (id, yes) => { if (yes) ids.add(id); else ids.delete(id); told(); } };
  let choosing = false;
  const many = make("button", { type: "button", "aria-pressed": "false", onclick: () => turn(!choosing) }, say("choose"));
  const note = make("span", { class: "soft num" });
  const zip = make("button", { type: "button", onclick: async () => { try { keep(await api.archive([...ids]), "imagen.zip"); } catch (problem) { toast(problem.message); } } }, say("download_zip"));
  const drop = make("button", { type: "button", onclick: () => remove([...ids]) }, say("remove_chosen"));
  const tools = make("div", { class: "row chosen", hidden: true }, note, zip, drop);
  const told = () => {
    note.textContent = say("chosen", { n: number(ids.size) });
    zip.disabled = drop.disabled = ids.size === 0;
  };
  const turn = (yes) => {
    choosing = yes;
    many.setAttribute("aria-pressed", String(yes));
    tools.hidden = !yes;
    if (!yes) ids.clear();
    told();
    hang();
  };
  /** Takes pictures away, until it is undone. */
  const remove = async (gone) => {
    try {
      for (const id of gone) await api.remove(id);
      voice(say("removed_many", { n: number(gone.length) }));
      toast(say("removed_many", { n: number(gone.length) }), say("undo"), async () => {
        try { for (const id of gone) await api.restore(id); load(true); } catch (problem) { toast(problem.message); }
      }, 15);
    } catch (problem) { toast(problem.message); }
    ids.clear();
    told();
    load(true);
  };

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
    wall.replaceChildren(...shown.map((picture) => hung(picture, open, choosing ? chosen : null)));
    many.hidden = shown.length === 0 && !choosing;
    none.hidden = shown.length > 0;
    none.textContent = say(search.value || loved.getAttribute("aria-pressed") === "true" ? "nothing" : "empty");
    more.hidden = next === null;
  };

  const load = async (anew) => {
    const now = ++asked;
    wall.setAttribute("aria-busy", "true");
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
    } catch (problem) { toast(problem.message); } finally {
      if (now === asked) wall.setAttribute("aria-busy", "false");
    }
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

  return { element: make("div", {}, make("h2", { class: "unseen" }, say("gallery")), make("div", { class: "find" }, search, loved, many), tools, wall, none, more), load: () => load(true), search };
};
